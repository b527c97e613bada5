//! The connection string of a server that is only read. It may promise less than that of messages.

use std::str::FromStr;

use super::{InvalidMongoUri, MongoUri};

/// Options about writes, and about what a read may miss. A source is read from its primary.
const PROMISES: [&str; 7] = [
    "j",
    "journal",
    "maxstalenessseconds",
    "readconcernlevel",
    "readpreference",
    "readpreferencetags",
    "w",
];

/// Values that say what is so anyway.
const KEPT: [&str; 3] = ["majority", "primary", "true"];

/// The connection string of a server that is only read.
#[derive(Clone, Debug)]
pub struct SourceUri(MongoUri);

impl SourceUri {
    /// Returns what has no effect, given the name of the setting.
    pub fn warnings(&self, setting: &str) -> impl Iterator<Item = String> {
        self.0.warnings.iter().map(move |warning| warning.replace("MONGO_URI", setting))
    }

    /// Returns the connection string.
    #[must_use]
    pub fn uri(&self) -> &MongoUri {
        &self.0
    }
}

impl FromStr for SourceUri {
    type Err = InvalidMongoUri;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((base, query)) = text.split_once('?') else { return text.parse().map(Self) };
        let (dropped, kept): (Vec<&str>, Vec<&str>) =
            query.split('&').partition(|pair| drops(pair));
        let mut uri: MongoUri = format!("{base}?{}", kept.join("&")).parse()?;
        let names = dropped.iter().filter_map(|pair| pair.split('=').next());
        uri.warnings
            .extend(names.map(|name| format!("the option {name} of MONGO_URI has no effect")));
        Ok(Self(uri))
    }
}

fn drops(pair: &str) -> bool {
    let Some((name, value)) = pair.split_once('=') else { return false };
    PROMISES.contains(&name.to_ascii_lowercase().as_str())
        && !KEPT.contains(&value.to_ascii_lowercase().as_str())
        // It may be the end of a password with a question mark.
        && !value.is_empty() && !value.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_promise_less_with_a_warning() {
        for option in
            ["w=1", "journal=false", "readPreference=secondaryPreferred", "readConcernLevel=local"]
        {
            let text = format!("mongodb://host/chat?{option}&w=majority");
            assert!(text.parse::<MongoUri>().is_err(), "{option}");
            let source: SourceUri = text.parse().unwrap();
            assert_eq!(source.uri().database(), Some("chat"));
            let warnings: Vec<String> = source.warnings("IMPORT_FROM_URI").collect();
            let name = option.split('=').next().unwrap();
            let warning = format!("the option {name} of IMPORT_FROM_URI has no effect");
            assert_eq!(warnings, [warning]);
        }
    }

    #[test]
    fn what_promises_enough_has_no_warning() {
        let source: SourceUri =
            "mongodb://host/?w=Majority&journal=TRUE&readPreference=Primary".parse().unwrap();
        assert_eq!(source.warnings("IMPORT_FROM_URI").count(), 0);
    }

    #[test]
    fn anything_else_is_as_strict() {
        for text in [
            "http://host",
            "mongodb://host/?unknown=1",
            "mongodb://host/?w=",
            "mongodb://user:1?w=a@host",
        ] {
            assert!(text.parse::<SourceUri>().is_err(), "{text}");
        }
    }
}
