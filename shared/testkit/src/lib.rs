//! The foundation of tests: a real RabbitMQ and a real MongoDB, the real services as child processes, faults
//! (kill, freeze, cut, delay), and waiting without sleeping. `cargo xtask` installs and starts its servers with
//! the same code.
//!
//! A test begins with [`TestEnvironment::new`], which gives it its own vhost on a shared broker and its own
//! database on a shared server; `cargo xtask test` starts those two. A test that stops or freezes a server
//! starts its own: [`PrivateBroker::start`], [`PrivateMongod::start`].

mod api;
mod balancer;
mod broker;
mod documentation;
mod environment;
mod event_source;
mod eventually;
mod issuer;
mod management;
mod mongod;
mod ports;
mod process;
mod progress;
pub mod provision;
mod proxy;
mod replica_set;
mod service;
pub mod settings;
mod storage_format;
mod subscriber;
mod tls;

pub use api::{Answer, Api, IDLE_CONNECTION_LIMIT};
pub use balancer::Balancer;
pub use broker::{BrokerOptions, PrivateBroker};
pub use documentation::check_settings_documented;
pub use environment::{TestEnvironment, TestEnvironmentBuilder};
pub use event_source::{EventSource, ServerSentEvent};
pub use eventually::{Check, eventually};
pub use issuer::{Answers, KeyServer, TestIssuer, TestKey};
pub use management::{Connection, FetchedMessage, Management, Queue};
pub use mongod::{MongodOptions, PrivateMongod};
pub use ports::free_port;
pub use process::{Group, Process, ProcessId, log_tail};
pub use progress::{Progress, Silent, Steps};
pub use proxy::Proxy;
pub use replica_set::PrivateReplicaSet;
pub use service::{Service, ServiceBuilder, ServiceProcess};
pub use storage_format::FormatOne;
pub use subscriber::Subscriber;
pub use tls::TlsFiles;
