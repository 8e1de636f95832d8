//! Tables of series, in which each stands once.

/// Makes a struct of rows `field: Type, "name", "help";` and its function `register`, which registers them in their
/// order. A type without a default, such as a histogram, takes its value as `field: Type = value, …`; the value may use
/// the argument of `register`, which stands in brackets behind the struct's name. A field without a name is no series.
/// Counters gain `_total` when they are written out.
macro_rules! series {
    (
        $(#[$meta:meta])*
        $vis:vis struct $table:ident $(($from:ident: $from_type:ty))? {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty $(= $value:expr)?
                $(, $name:literal, $help:literal)?;)*
        }
    ) => {
        $(#[$meta])*
        $vis struct $table {
            $($(#[$field_meta])* $field_vis $field: $type,)*
        }

        impl $table {
            fn register(registry: &mut prometheus_client::registry::Registry $(, $from: $from_type)?) -> Self {
                $(
                    let $field: $type = series!(@value $($value)?);
                    $(registry.register($name, $help, $field.clone());)?
                )*
                Self { $($field),* }
            }
        }
    };
    (@value) => { Default::default() };
    (@value $value:expr) => { $value };
}

pub(super) use series;
