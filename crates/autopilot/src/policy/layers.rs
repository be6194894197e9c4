//! The layers of policies: the places at which a policy value can be set.
//!
//! From far to close: the configuration of the server, of the warehouse and of patterns of namespaces; then the
//! properties of the table's namespaces and of the table. [`Layers`] holds those of the configuration. A layer knows nothing of
//! the types of values; [`Policy::of`] parses them.

use std::collections::BTreeMap;
use std::fmt;

use esker_types::{NamespaceName, closest};
use glob::Pattern;
use serde::Serialize;

use super::{JOB_PROPERTIES, KEYS, PREFIX, Policy};
use crate::{PolicyError, Result};

/// The place at which a policy value is set. Its display form names the place for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The default of the key: no layer sets it.
    Default,
    /// The section `[policy]` of the configuration.
    Server,
    /// The section `[warehouses.NAME.policy]` of the configuration, by the name of the warehouse.
    Warehouse(String),
    /// The section `[warehouses.NAME.namespaces."PATTERN"]`, by the name of the warehouse and the pattern.
    Pattern(String, String),
    /// A property of a namespace, by the name of the namespace.
    Namespace(String),
    /// A property of the table.
    Table,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Server => f.write_str("policy"),
            Self::Warehouse(name) => write!(f, "warehouses.{name}.policy"),
            Self::Pattern(warehouse, pattern) => write!(f, "warehouses.{warehouse}.namespaces.{pattern:?}"),
            Self::Namespace(name) => write!(f, "property of namespace {name}"),
            Self::Table => f.write_str("table property"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// The policy values that are set at one place, not parsed yet.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The place of the values.
    pub origin: Origin,
    /// The values by key. The keys of properties are without [`PREFIX`].
    pub values: BTreeMap<String, String>,
}

impl Layer {
    /// Makes a layer of those properties that begin with [`PREFIX`].
    pub(super) fn of_properties(origin: Origin, properties: impl Iterator<Item = (String, String)>) -> Self {
        let values = properties.filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?.to_owned(), value))).collect();
        Self { origin, values }
    }

    /// Reports the keys of the layer that are no policy keys.
    pub(super) fn unknown_keys(&self) -> impl Iterator<Item = PolicyError> {
        // Jobs read these properties from the table only. In another layer they would have no effect.
        let of_table = self.origin == Origin::Table;
        let others = move |key: &str| of_table && JOB_PROPERTIES.iter().any(|other| other.strip_prefix(PREFIX) == Some(key));
        let unknown = self.values.keys().filter(move |key| !others(key) && !KEYS.iter().any(|k| k.name == key.as_str()));
        unknown.map(|key| {
            let near = closest(key, KEYS.iter().map(|k| k.name));
            PolicyError::Unknown { origin: self.origin.to_string(), key: key.clone(), near }
        })
    }
}

/// The layers of one warehouse that the configuration sets.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    layers: Vec<Layer>,
    patterns: Vec<(Pattern, Layer)>,
}

impl Layers {
    /// Takes the layers of a warehouse from the configuration, and checks every key, value and pattern.
    ///
    /// `server` is `[policy]`, `own` the warehouse's policy, and `patterns` holds its values by pattern of namespaces. Of two
    /// patterns, the one with more literal characters is closer to the table.
    ///
    /// # Errors
    ///
    /// Returns [`Pattern`](PolicyError::Pattern) if a pattern is not a glob pattern, [`Unknown`](PolicyError::Unknown) if a key
    /// is no policy key, and [`Value`](PolicyError::Value) if a value can't be parsed.
    pub fn new(
        warehouse: &str,
        server: &BTreeMap<String, String>,
        own: &BTreeMap<String, String>,
        patterns: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<Self> {
        let layers = vec![
            Layer { origin: Origin::Server, values: server.clone() },
            Layer { origin: Origin::Warehouse(warehouse.to_owned()), values: own.clone() },
        ];
        let mut matched = Vec::new();
        for (pattern, values) in patterns {
            let origin = Origin::Pattern(warehouse.to_owned(), pattern.clone());
            let compiled = Pattern::new(pattern).map_err(|e| PolicyError::Pattern {
                warehouse: warehouse.to_owned(),
                pattern: pattern.clone(),
                reason: e.msg.to_owned(),
            })?;
            matched.push((compiled, Layer { origin, values: values.clone() }));
        }
        // A pattern with more literal characters matches fewer namespaces, so it is closer to the table.
        let literal = |pattern: &Pattern| pattern.as_str().chars().filter(|c| !"*?[]".contains(*c)).count();
        matched.sort_by(|(a, _), (b, _)| literal(a).cmp(&literal(b)).then_with(|| a.as_str().cmp(b.as_str())));
        let this = Self { layers, patterns: matched };
        let all: Vec<Layer> = this.layers.iter().chain(this.patterns.iter().map(|(_, layer)| layer)).cloned().collect();
        for layer in &all {
            if let Some(problem) = Policy::of(std::slice::from_ref(layer)).problems.into_iter().next() {
                return Err(problem);
            }
        }
        Ok(this)
    }

    /// Returns the origins of the patterns that match none of some namespaces, so that they set nothing.
    pub fn unmatched(&self, namespaces: &[NamespaceName]) -> Vec<Origin> {
        let names: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
        let unmatched = self.patterns.iter().filter(|(pattern, _)| !names.iter().any(|name| pattern.matches(name)));
        unmatched.map(|(_, layer)| layer.origin.clone()).collect()
    }

    /// Returns the layers of a table that set anything, the closest last.
    ///
    /// `namespaces` are the properties of the table's namespace and those above it, the outermost first. `table` are the
    /// properties of the table.
    pub fn layers_of_table<'a>(
        &self,
        namespace: &NamespaceName,
        namespaces: impl Iterator<Item = (&'a NamespaceName, &'a BTreeMap<String, String>)>,
        table: impl Iterator<Item = (String, String)>,
    ) -> Vec<Layer> {
        let name = namespace.to_string();
        let mut layers = self.layers.clone();
        layers.extend(self.patterns.iter().filter(|(pattern, _)| pattern.matches(&name)).map(|(_, layer)| layer.clone()));
        layers.extend(namespaces.map(|(name, properties)| {
            Layer::of_properties(Origin::Namespace(name.to_string()), properties.iter().map(|(k, v)| (k.clone(), v.clone())))
        }));
        layers.push(Layer::of_properties(Origin::Table, table));
        layers.retain(|layer| !layer.values.is_empty());
        layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[(&str, &str)]) -> BTreeMap<String, String> {
        values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_longest_pattern_that_matches_says_most_and_properties_more() {
        let patterns = BTreeMap::from([
            ("*".to_owned(), map(&[("freeze", "true")])),
            ("raw.*".to_owned(), map(&[("freeze", "false"), ("payback", "1d")])),
        ]);
        let layers = Layers::new("w", &map(&[("autopilot", "true")]), &BTreeMap::new(), &patterns).expect("valid");
        let of = |namespace: &str, table: &[(&str, &str)]| {
            let name: NamespaceName = NamespaceName::new(namespace.split('.').map(str::to_owned).collect()).expect("valid");
            Policy::of(&layers.layers_of_table(&name, std::iter::empty(), map(table).into_iter()))
        };
        assert!(of("mart", &[]).freeze && !of("raw.crm", &[]).freeze);
        assert_eq!(of("raw.crm", &[]).origin("payback").to_string(), "warehouses.w.namespaces.\"raw.*\"");
        assert!(of("raw.crm", &[("esker.freeze", "true"), ("owner", "x"), ("esker.expire.min-age-ms", "0")]).freeze);
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused_by_key() {
        let refused = |server: &[(&str, &str)], pattern: &str| {
            let patterns = BTreeMap::from([(pattern.to_owned(), BTreeMap::new())]);
            Layers::new("w", &map(server), &BTreeMap::new(), &patterns).expect_err("refused").to_string()
        };
        assert!(refused(&[("autopilo", "true")], "*").starts_with("policy: autopilo is not a policy key; is autopilot meant?"));
        assert!(refused(&[("payback", "soon")], "*").contains("payback = \"soon\""));
        assert!(refused(&[("expire.min-age-ms", "1")], "*").contains("is not a policy key"), "only the table may set it");
        assert!(refused(&[], "a[").contains("namespaces.\"a[\""));
    }
}
