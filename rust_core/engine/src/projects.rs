//! Which project a token belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use penstock_model::{AckLevel, Code, Refusal};

use crate::options::ProjectOptions;

/// A token's project.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) name: Arc<str>,
    /// Ack level of its HTTP requests, where it differs from the server's.
    pub(crate) ack: Option<AckLevel>,
}

/// Named projects close the door to other tokens; without any, a token is its own project.
#[derive(Debug)]
pub(crate) struct Projects {
    named: HashMap<String, Project>,
    unnamed: Mutex<HashMap<String, Project>>,
    max_unnamed: usize,
}

impl Projects {
    pub(crate) fn new(options: &[ProjectOptions], max_unnamed: usize) -> Self {
        let mut named = HashMap::new();
        for project in options {
            let resolved = Project {
                name: Arc::from(project.name.as_str()),
                ack: project.ack,
            };
            for token in &project.tokens {
                named.insert(token.clone(), resolved.clone());
            }
        }
        Self {
            named,
            unnamed: Mutex::new(HashMap::new()),
            max_unnamed,
        }
    }

    /// Looks a well-formed token up.
    pub(crate) fn resolve(&self, token: &str) -> Result<Project, Refusal> {
        if !self.named.is_empty() {
            return self
                .named
                .get(token)
                .cloned()
                .ok_or_else(|| Refusal::new(Code::UnknownToken, ""));
        }
        let mut unnamed = self.unnamed.lock();
        if let Some(project) = unnamed.get(token) {
            return Ok(project.clone());
        }
        // LIM-2: each project costs a partition a day and a builder; strangers invent tokens.
        if unnamed.len() >= self.max_unnamed {
            return Err(Refusal::new(Code::TooManyProjects, ""));
        }
        let project = Project {
            name: Arc::from(token),
            ack: None,
        };
        unnamed.insert(token.to_owned(), project.clone());
        Ok(project)
    }

    /// Counts a token of recovered records in, so that a restart does not reopen the door wider.
    pub(crate) fn seen(&self, token: &str) {
        drop(self.resolve(token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unnamed_projects_are_taken_up_to_the_limit() {
        let projects = Projects::new(&[], 2);
        assert_eq!(&*projects.resolve("a").unwrap().name, "a");
        assert!(projects.resolve("b").is_ok());
        assert_eq!(
            projects.resolve("c").unwrap_err().code,
            Code::TooManyProjects
        );
        assert!(projects.resolve("a").is_ok());
    }

    #[test]
    fn naming_a_project_closes_the_door_to_other_tokens() {
        let named = ProjectOptions {
            name: "shop".to_owned(),
            tokens: vec!["phc_1".to_owned(), "phc_2".to_owned()],
            ack: None,
        };
        let projects = Projects::new(&[named], 1_000);
        assert_eq!(&*projects.resolve("phc_2").unwrap().name, "shop");
        assert_eq!(
            projects.resolve("phc_3").unwrap_err().code,
            Code::UnknownToken
        );
    }
}
