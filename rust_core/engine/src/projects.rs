//! Which project a token belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use penstock_model::{AckLevel, Code, Refusal};

use crate::options::ProjectOptions;

/// A token's project.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) name: Arc<str>,
    /// Ack level of its HTTP requests, where it differs from the server's.
    pub(crate) ack: Option<AckLevel>,
    /// Whether its clients' addresses are discarded, where that differs from the server's.
    pub(crate) discard_client_ip: Option<bool>,
}

/// Named projects close the door to other tokens; without any, a token is its own project.
#[derive(Debug)]
pub(crate) struct Projects {
    /// By token. Replaced as a whole, so that a request sees all of one table or all of the next.
    named: RwLock<HashMap<String, Project>>,
    unnamed: Mutex<HashMap<String, Project>>,
    max_unnamed: usize,
}

impl Projects {
    pub(crate) fn new(options: &[ProjectOptions], max_unnamed: usize) -> Self {
        Self {
            named: RwLock::new(by_token(options)),
            unnamed: Mutex::new(HashMap::new()),
            max_unnamed,
        }
    }

    /// Puts other named projects in place of all that there are.
    ///
    /// What was resolved before keeps its project: records carry it, also through a replay.
    pub(crate) fn replace(&self, options: &[ProjectOptions]) {
        let next = by_token(options);
        let before = std::mem::replace(&mut *self.named.write(), next);
        // Not under the lock, which requests wait for.
        drop(before);
    }

    /// Looks a well-formed token up.
    pub(crate) fn resolve(&self, token: &str) -> Result<Project, Refusal> {
        {
            let named = self.named.read();
            if !named.is_empty() {
                return named
                    .get(token)
                    .cloned()
                    .ok_or_else(|| Refusal::new(Code::UnknownToken, ""));
            }
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
            discard_client_ip: None,
        };
        unnamed.insert(token.to_owned(), project.clone());
        Ok(project)
    }

    /// Counts a token of recovered records in, so that a restart does not reopen the door wider.
    pub(crate) fn seen(&self, token: &str) {
        drop(self.resolve(token));
    }
}

fn by_token(options: &[ProjectOptions]) -> HashMap<String, Project> {
    let mut named = HashMap::new();
    for project in options {
        let resolved = Project {
            name: Arc::from(project.name.as_str()),
            ack: project.ack,
            discard_client_ip: project.discard_client_ip,
        };
        for token in &project.tokens {
            named.insert(token.clone(), resolved.clone());
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, tokens: &[&str]) -> ProjectOptions {
        ProjectOptions {
            name: name.to_owned(),
            tokens: tokens.iter().map(|token| (*token).to_owned()).collect(),
            ack: None,
            discard_client_ip: None,
        }
    }

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
        let projects = Projects::new(&[named("shop", &["phc_1", "phc_2"])], 1_000);
        assert_eq!(&*projects.resolve("phc_2").unwrap().name, "shop");
        assert_eq!(
            projects.resolve("phc_3").unwrap_err().code,
            Code::UnknownToken
        );
    }

    #[test]
    fn replaced_projects_take_new_tokens_and_refuse_those_that_are_gone() {
        let projects = Projects::new(&[named("shop", &["phc_1", "phc_2"])], 1_000);
        projects.replace(&[named("store", &["phc_2", "phc_3"])]);
        assert_eq!(
            projects.resolve("phc_1").unwrap_err().code,
            Code::UnknownToken
        );
        assert_eq!(&*projects.resolve("phc_2").unwrap().name, "store");
        assert_eq!(&*projects.resolve("phc_3").unwrap().name, "store");
    }

    #[test]
    fn replacing_by_none_opens_the_door_up_to_the_limit() {
        let projects = Projects::new(&[named("shop", &["phc_1"])], 1);
        projects.replace(&[]);
        assert_eq!(&*projects.resolve("phc_9").unwrap().name, "phc_9");
        assert_eq!(
            projects.resolve("phc_8").unwrap_err().code,
            Code::TooManyProjects
        );
        projects.replace(&[named("shop", &["phc_1"])]);
        assert_eq!(
            projects.resolve("phc_9").unwrap_err().code,
            Code::UnknownToken
        );
    }
}
