//! The macro `json_object!`: JSON objects that keep unknown fields.

/// Implements reading and printing of a struct as a JSON object.
///
/// Each line maps a JSON field to a field of the struct. A `needed` field must exist. An `optional` field may be absent or null,
/// and is printed only if it is `Some`. An `or_default` field may be absent or null, and is always printed. The struct's field
/// `extra` takes all other JSON fields.
macro_rules! json_object {
    ($name:ident { $($kind:ident $json:literal => $field:ident),* $(,)? }) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                struct Fields;
                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> std::result::Result<$name, A::Error> {
                        $(let mut $field = None;)*
                        let mut extra = $crate::Extra::default();
                        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
                            match key.as_ref() {
                                $($json => $field = json_object!(@read $kind map),)*
                                _ => extra.insert(key.into_owned(), map.next_value()?),
                            }
                        }
                        Ok($name { $($field: json_object!(@taken $kind $json $field),)* extra })
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                $(json_object!(@print $kind map, $json, &self.$field);)*
                for (name, value) in self.extra.iter() {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    };
    (@read needed $map:ident) => { Some($map.next_value()?) };
    (@read optional $map:ident) => { $map.next_value()? };
    (@read or_default $map:ident) => { $map.next_value()? };
    (@taken needed $json:literal $field:ident) => { $field.ok_or_else(|| serde::de::Error::missing_field($json))? };
    (@taken optional $json:literal $field:ident) => { $field };
    (@taken or_default $json:literal $field:ident) => { $field.unwrap_or_default() };
    (@print needed $map:ident, $json:literal, $value:expr) => { $map.serialize_entry($json, $value)?; };
    (@print or_default $map:ident, $json:literal, $value:expr) => { $map.serialize_entry($json, $value)?; };
    (@print optional $map:ident, $json:literal, $value:expr) => {
        if let Some(value) = $value {
            $map.serialize_entry($json, value)?;
        }
    };
}
