//! Values that another database cannot keep as they are.
//!
//! SQLite keeps NUL in a text and PostgreSQL does not. Earlier versions took it in labels and keys, and one such letter must not hold back
//! a history.

/// A value of a row.
pub(in crate::store) trait Value {
    /// Puts U+FFFD, the sign for a letter that cannot be shown, in the place of each NUL. Returns whether there was one.
    fn without_nul(&mut self) -> bool;
}

impl Value for String {
    fn without_nul(&mut self) -> bool {
        let has_nul = self.contains('\0');
        if has_nul {
            *self = self.replace('\0', "\u{fffd}");
        }
        has_nul
    }
}

impl<V: Value> Value for Option<V> {
    fn without_nul(&mut self) -> bool {
        self.as_mut().is_some_and(V::without_nul)
    }
}

/// Numbers have none.
macro_rules! numbers {
    ($($number:ty),+) => {
        $(impl Value for $number {
            fn without_nul(&mut self) -> bool {
                false
            }
        })+
    };
}
numbers!(i16, i32, i64);
