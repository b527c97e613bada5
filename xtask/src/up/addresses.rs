//! The addresses of the services: those that the environment asks for, or free ports beside them.

use std::{
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Result, bail};
use testkit::{Progress, Service, Steps, free_port};
use tokio::net::lookup_host;

use super::Options;

/// Preferred address of the first replica of each service.
#[derive(Debug)]
pub(super) struct Preferred(Vec<(Service, SocketAddr)>);

/// Address of each replica.
#[derive(Debug, Default)]
pub(super) struct Addresses(pub(super) Vec<(Service, SocketAddr)>);

impl Preferred {
    /// Reads the variables that the services know, which here default to loopback addresses.
    pub(super) async fn from_environment() -> Result<Self> {
        let mut preferred = Vec::new();
        for service in Service::ALL {
            let variable = service.bind_variable();
            let default = format!("127.0.0.1:{}", default_port(service));
            let value =
                env::var(variable).ok().filter(|value| !value.is_empty()).unwrap_or(default);
            let address = lookup_host(&value).await.ok().and_then(|mut found| found.next());
            let Some(address) = address else {
                bail!("{variable}: `{value}` is not an address with a port")
            };
            preferred.push((service, address));
        }
        Ok(Self(preferred))
    }

    /// Chooses a free address for each replica: the preferred one for the first where it is free.
    pub(super) fn choose(&self, options: &Options, steps: Steps) -> Result<Addresses> {
        let mut addresses = Addresses::default();
        for (service, preferred) in &self.0 {
            for number in 1..=options.replicas(*service) {
                let preferred =
                    if number == 1 { *preferred } else { SocketAddr::new(preferred.ip(), 0) };
                let address = addresses.free(preferred)?;
                if preferred.port() != 0 && address != preferred {
                    steps.say(&format!(
                        "{preferred} is taken: the {} listens on {address}",
                        service.binary()
                    ));
                }
                addresses.0.push((*service, address));
            }
        }
        Ok(addresses)
    }
}

impl Addresses {
    /// Returns the first broadcaster's URL, for the gateways.
    pub(super) fn broadcaster_url(&self) -> Option<String> {
        self.0
            .iter()
            .find(|(service, _)| *service == Service::Broadcaster)
            .map(|(_, address)| url(*address))
    }

    fn free(&self, preferred: SocketAddr) -> Result<SocketAddr> {
        if preferred.port() != 0 && self.is_free(preferred) {
            return Ok(preferred);
        }
        for _ in 0..100 {
            let address = SocketAddr::new(preferred.ip(), free_port()?);
            if self.is_free(address) {
                return Ok(address);
            }
        }
        bail!("no free port on {}", preferred.ip())
    }

    fn is_free(&self, address: SocketAddr) -> bool {
        !self.0.iter().any(|(_, taken)| taken.port() == address.port())
            && TcpListener::bind(address).is_ok()
    }
}

/// Returns the URL by which this machine reaches a listener.
pub(super) fn url(address: SocketAddr) -> String {
    let ip =
        if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

fn default_port(service: Service) -> u16 {
    match service {
        Service::Gateway => 8000,
        Service::Broadcaster => 8001,
        Service::StorageWorker => 8002,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_avoided_and_no_address_is_chosen_twice() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = holder.local_addr().unwrap();
        let mut addresses = Addresses::default();
        let address = addresses.free(taken).unwrap();
        assert_ne!(address, taken);
        addresses.0.push((Service::Gateway, address));
        assert_ne!(addresses.free(address).unwrap(), address);
        drop(holder);
    }

    #[test]
    fn an_unspecified_address_is_reached_by_loopback() {
        assert_eq!(url("0.0.0.0:8000".parse().unwrap()), "http://127.0.0.1:8000");
        assert_eq!(url("[::1]:8000".parse().unwrap()), "http://[::1]:8000");
    }
}
