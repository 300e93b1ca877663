/** The program of a worker that makes trials. */

import { carryOut } from './embed/trials.js';

export default carryOut;
