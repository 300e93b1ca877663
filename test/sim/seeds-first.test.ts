/** Whole nodes under seeded faults: nothing lost, nothing wrong, and all repaired once faults stop. The first half of the seeds. */

import { runHalf } from '../support/thousand-trials.js';

runHalf(0);
