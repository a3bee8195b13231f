//! Changes of files that the admin API orders: each is checked as a whole before it is written, and
//! live, or known to need a restart, before it is answered. The files stay the truth: they are read
//! afresh for each change, and those who change them by hand lose nothing.

use std::path::{Path, PathBuf};

mod plugin;

use super::Reload;
use super::set::Around;
use crate::config::Config;
use crate::config::edit::{self, BindingText, EditError, Edited, Settings};
use crate::credentials::{NewIdentity, NotReplaced};
use crate::files;
use crate::plugins::scan::{Trust, stamp};

/// What is to be another.
#[derive(Debug)]
pub(crate) enum Change {
    /// Keys of `[gateway.limits]`.
    Limits { gateway: String, settings: Settings },
    /// Every `[[gateway.binding]]`.
    Bindings { gateway: String, bindings: Vec<BindingText> },
    /// Chain and key of the certificate that a gateway has under this name.
    Certificate { gateway: String, name: String, identity: NewIdentity },
    /// How versions of a plugin take over: keys of its manifest.
    Rollout { plugin: String, settings: Settings },
    /// The component of a plugin, with the text of its signature.
    Component { plugin: String, component: Vec<u8>, signature: Option<String> },
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    /// What is another in the files.
    pub(crate) changed: Vec<String>,
    /// Whether it holds now.
    pub(crate) live: bool,
    /// What the files say and only a restart does, of this change and of earlier ones.
    pub(crate) needs_restart: Vec<String>,
    /// More about it, and what else was found on the way; may be empty.
    pub(crate) detail: String,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotChanged {
    /// There is no such thing.
    #[error("{0}")]
    Unknown(String),
    /// This gateway cannot be changed so.
    #[error("{0}")]
    Impossible(String),
    /// What is asked for has mistakes.
    #[error("{0}")]
    Refused(String),
    /// The gateway's fault, or its machine's.
    #[error("{0}")]
    Failed(String),
}

impl From<EditError> for NotChanged {
    fn from(error: EditError) -> Self {
        match error {
            EditError::NoGateway(_) => Self::Unknown(error.to_string()),
            EditError::Unreadable(_) | EditError::Form(..) => Self::Impossible(error.to_string()),
        }
    }
}

impl From<NotReplaced> for NotChanged {
    fn from(error: NotReplaced) -> Self {
        let text = error.to_string();
        match error {
            NotReplaced::NoTls(_) | NotReplaced::Unknown { .. } => Self::Unknown(text),
            NotReplaced::Impossible(_) => Self::Impossible(text),
            NotReplaced::Refused(_) => Self::Refused(text),
            NotReplaced::File(..) => Self::Failed(text),
        }
    }
}

const NO_FILE: &str = "this gateway was started without a configuration file, and what it serves with is \
     not kept anywhere: start it with --config FILE";

impl Reload {
    /// Makes a change, and what it asks for live.
    pub(super) async fn change(&mut self, change: Change, by: &str) -> Result<Changed, NotChanged> {
        match change {
            Change::Limits { gateway, settings } => {
                let edit = |text: &str| edit::limits(text, &gateway, &settings);
                let mut changed = self.change_config(edit, by).await?;
                changed.live &= same_limits(&self.started, &self.config, &gateway);
                Ok(changed)
            }
            Change::Bindings { gateway, bindings } => {
                let edit = |text: &str| edit::bindings(text, &gateway, &bindings);
                self.change_config(edit, by).await
            }
            Change::Certificate { gateway, name, identity } => {
                self.change_certificate(&gateway, &name, identity, by).await
            }
            Change::Rollout { plugin, settings } => {
                self.change_rollout(&plugin, &settings, by).await
            }
            Change::Component { plugin, component, signature } => {
                self.change_component(&plugin, component, signature, by).await
            }
        }
    }

    /// Where the configuration is, where it can be another.
    fn config_path(&self) -> Result<PathBuf, NotChanged> {
        let path = self.config.path.clone().filter(|_| self.reread.is_some());
        path.ok_or_else(|| NotChanged::Impossible(NO_FILE.to_owned()))
    }

    async fn change_config(
        &mut self,
        edit: impl FnOnce(&str) -> Result<Edited, EditError>,
        by: &str,
    ) -> Result<Changed, NotChanged> {
        let path = self.config_path()?;
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        let Edited { text: next, changed } = edit(&text)?;
        self.check_config(&next)?;
        if next != text {
            files::replace(&path, None, next.as_bytes())
                .map_err(|error| unwritable(&path, &error))?;
        }
        // What is told of the file now is what was done here.
        self.config_seen = Some((stamp(&path), None));
        let is_live = self.reread(by) && self.settle(by);
        let looked = self.look_at_credentials(Trust::AsItIs, by).await;
        let needs_restart = self.started.needs_restart(&self.config);
        let detail = looked.mistakes.join("; ");
        Ok(Changed { changed, live: is_live, needs_restart, detail })
    }

    /// What `portreeve check` says of a text that the configuration file is to have.
    fn check_config(&self, text: &str) -> Result<(), NotChanged> {
        let refused = |mistakes: Vec<String>| NotChanged::Refused(mistakes.join("; "));
        let Some(reread) = &self.reread else {
            return Err(NotChanged::Impossible(NO_FILE.to_owned()));
        };
        let config = reread(Some(text)).map_err(refused)?;
        let around = Around { config: &self.config, gateways: &self.gateways };
        self.set.fits(around, &config).map_err(refused)
    }

    async fn change_certificate(
        &mut self,
        gateway: &str,
        name: &str,
        identity: NewIdentity,
        by: &str,
    ) -> Result<Changed, NotChanged> {
        self.config_path()?;
        let Some(credentials) = &mut self.credentials else {
            return Err(NotChanged::Failed("the gateway starts".to_owned()));
        };
        let replaced = credentials.replace(&self.config, gateway, name, identity, by).await?;
        let changed = replaced.is_other.then(|| format!("certificate {name}"));
        let needs_restart = self.started.needs_restart(&self.config);
        let changed = changed.into_iter().collect();
        Ok(Changed { changed, live: true, needs_restart, detail: replaced.detail })
    }
}

/// Whether the limits that a gateway was started with are those of the file.
fn same_limits(started: &Config, now: &Config, gateway: &str) -> bool {
    let of = |config: &Config| {
        let found = config.gateways.iter().find(|one| one.name == gateway);
        found.map(|one| one.limits.clone())
    };
    of(started) == of(now)
}

fn unreadable(path: &Path, error: &std::io::Error) -> NotChanged {
    NotChanged::Failed(format!("{} cannot be read: {error}", path.display()))
}

fn unwritable(path: &Path, error: &std::io::Error) -> NotChanged {
    NotChanged::Failed(format!("{} cannot be written: {error}", path.display()))
}
