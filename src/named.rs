//! Enums that users choose from by name. `strum` derives the names; an unknown name is an error
//! that lists them all.

/// `ALL`, `name`, `Display` and `FromStr` for an enum that derives `strum::VariantArray` and
/// `strum::IntoStaticStr`. `$field` is the setting that the error for an unknown name names.
macro_rules! named {
    ($enum:ty, $field:literal) => {
        impl $enum {
            /// All variants, in the order in which messages list them.
            pub const ALL: [Self; <Self as strum::VariantArray>::VARIANTS.len()] =
                *<Self as strum::VariantArray>::VARIANTS.first_chunk().unwrap();

            /// The name that users write.
            pub fn name(self) -> &'static str {
                self.into()
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $enum {
            type Err = $crate::Error;

            fn from_str(name: &str) -> $crate::Result<Self> {
                Self::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| {
                    let known = Self::ALL.map(Self::name).join(", ");
                    let message = format!("`{name}` is unknown; choose one of {known}");
                    $crate::Error::config($field, message)
                })
            }
        }
    };
}
