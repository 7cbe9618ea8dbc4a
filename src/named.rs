//! Enums that users choose from by name. The names are derived (`strum`); an unknown one is an error that lists them all.

/// `ALL`, `name`, `Display` and `FromStr` of an enum that derives `strum::VariantArray` and `strum::IntoStaticStr`.
/// `$field` is the setting that an unknown name is reported for.
macro_rules! named {
    ($kind:ty, $field:literal) => {
        impl $kind {
            /// All of them, in the order in which messages list them.
            pub const ALL: [Self; <Self as strum::VariantArray>::VARIANTS.len()] =
                *<Self as strum::VariantArray>::VARIANTS.first_chunk().unwrap();

            /// The name that users write.
            pub fn name(self) -> &'static str {
                self.into()
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $kind {
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
