//! Kinds that files declare: a program, the schema of its params, and what its jobs get.

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::command::{CommandHandler, CommandParams};
use super::{Answer, Context, Failure, Handler, JobDefaults, Problem, Schema};

/// What a file declares of a kind.
#[derive(Debug)]
pub struct Declared {
    /// The file.
    pub file: Arc<Path>,
    /// Of its text and the schema it refers to; another one means another kind.
    pub hash: blake3::Hash,
    /// How its program is run. `input` is empty here: it is what each job brings.
    pub command: CommandParams,
    /// What its params may be.
    pub schema: Schema,
    /// What its jobs get.
    pub defaults: JobDefaults,
    /// How a batch of it is run.
    pub items: ItemRuns,
}

/// How a batch of a kind is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ItemRuns {
    /// A run for each item.
    #[default]
    Each,
    /// One run for all items.
    All,
}

impl ItemRuns {
    /// The word in kind files and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::All => "all",
        }
    }
}

impl Declared {
    /// Everything that is wrong with params. They are an object whatever the schema says, because a program gets them by name.
    #[must_use]
    pub fn check(&self, params: &Value) -> Vec<Problem> {
        if !params.is_object() {
            return vec![Problem::at("", "params must be an object: {\"name\": value}")];
        }
        self.schema.check(params)
    }
}

/// Runs the program of a declared kind.
#[derive(Debug, Clone)]
pub struct DeclaredHandler {
    declared: Arc<Declared>,
    commands: CommandHandler,
}

impl DeclaredHandler {
    /// Runs the program of `declared`.
    #[must_use]
    pub fn new(declared: Arc<Declared>, commands: CommandHandler) -> Self {
        Self { declared, commands }
    }
}

impl Handler for DeclaredHandler {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        async move {
            // The kind may have another schema than when the job was submitted.
            let problems = self.declared.check(&context.job.params);
            if !problems.is_empty() {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                return Failure::error(format!(
                    "its params are not what the kind takes now: {}",
                    problems.join("; ")
                ))
                .for_good()
                .into();
            }
            let input = context.job.params.as_object().cloned();
            let params = CommandParams { input, ..self.declared.command.clone() };
            match &context.items {
                None => self.commands.run_as(&context, &params, None).await,
                Some(items) => self.commands.run_items(&context, params, items).await,
            }
        }
        .boxed()
    }
}
