//! Old configuration keys, which are read under their new names with a warning.

use std::cell::RefCell;

use esker_types::renamed::{CONFIGURATION_KEYS, Renamed};
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

/// A source of configuration whose old keys are renamed.
pub(crate) struct NewNames<'a, P> {
    source: P,
    warnings: &'a RefCell<Vec<String>>,
}

impl<'a, P> NewNames<'a, P> {
    /// Reads `source`; what uses an old key is added to `warnings`.
    pub(crate) fn of(source: P, warnings: &'a RefCell<Vec<String>>) -> Self {
        Self { source, warnings }
    }
}

impl<P: Provider> Provider for NewNames<'_, P> {
    fn metadata(&self) -> Metadata {
        self.source.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut data = self.source.data()?;
        for dict in data.values_mut() {
            for renamed in &CONFIGURATION_KEYS {
                rename(dict, renamed, self.warnings);
            }
        }
        Ok(data)
    }
}

fn rename(dict: &mut Dict, renamed: &Renamed, warnings: &RefCell<Vec<String>>) {
    let (Some((section, old)), Some((_, new))) = (renamed.old.split_once('.'), renamed.new.split_once('.')) else { return };
    let Some(Value::Dict(_, keys)) = dict.get_mut(section) else { return };
    if let Some(value) = keys.remove(old) {
        warnings.borrow_mut().push(renamed.warning());
        // The new key wins where both are set.
        keys.entry(new.to_owned()).or_insert(value);
    }
}
