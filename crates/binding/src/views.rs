//! Borrowing memory that JavaScript allocated.
//!
//! Views over a SharedArrayBuffer report the same address in every thread. The memory is kept alive by a reference to the
//! view, and is never seen as a Rust reference: other threads, and the kernel, change it at will.

use std::ptr;

use napi::bindgen_prelude::{FromNapiValue, Unknown};
use napi::{Error, JsValue, Result, Status, sys};

/// A typed array's memory.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub base: *mut u8,
    pub length: usize,
}

impl FromNapiValue for View {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> Result<Self> {
        let mut kind = 0;
        let mut elements = 0;
        let mut base = ptr::null_mut();
        let (mut buffer, mut offset) = (ptr::null_mut(), 0);
        // SAFETY: all places for results are valid.
        let status = unsafe {
            sys::napi_get_typedarray_info(env, value, &mut kind, &mut elements, &mut base, &mut buffer, &mut offset)
        };
        if status != sys::Status::napi_ok {
            return Err(Error::new(Status::InvalidArg, "a typed array is needed"));
        }
        let element_bytes = match kind {
            sys::TypedarrayType::int8_array
            | sys::TypedarrayType::uint8_array
            | sys::TypedarrayType::uint8_clamped_array => 1,
            sys::TypedarrayType::int16_array | sys::TypedarrayType::uint16_array => 2,
            sys::TypedarrayType::int32_array
            | sys::TypedarrayType::uint32_array
            | sys::TypedarrayType::float32_array => 4,
            _ => 8,
        };
        Ok(View { base: base.cast(), length: elements * element_bytes })
    }
}

impl View {
    /// The view's memory as entries of type `T`; `None` if it is not aligned for them or holds none.
    pub fn entries<T>(&self) -> Option<(*mut T, usize)> {
        let entries = self.base.cast::<T>();
        let count = self.length / size_of::<T>();
        (entries.is_aligned() && count > 0).then_some((entries, count))
    }
}

/// A property of `object` together with the view that it is.
pub fn view_of<'env>(object: &napi::bindgen_prelude::Object<'env>, name: &str) -> Result<(View, Unknown<'env>)> {
    use napi::bindgen_prelude::JsObjectValue;
    let value: Unknown = object.get_named_property(name)?;
    let raw = value.value();
    // SAFETY: the value belongs to this environment and handle scope.
    let view = unsafe { View::from_napi_value(raw.env, raw.value) };
    let view = view.map_err(|error| Error::new(error.status, format!("{name}: {}", error.reason)))?;
    Ok((view, value))
}

/// The same, of a property that need not be there.
pub fn view_if_any<'env>(
    object: &napi::bindgen_prelude::Object<'env>,
    name: &str,
) -> Result<Option<(View, Unknown<'env>)>> {
    use napi::bindgen_prelude::JsObjectValue;
    if object.has_named_property(name)? { view_of(object, name).map(Some) } else { Ok(None) }
}
