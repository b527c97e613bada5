//! Where the services listen: where the variables say, else nearby.

use std::{
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Result, bail};
use testkit::{Progress, Service, free_port};
use tokio::net::lookup_host;

use super::Options;
use crate::console::Steps;

/// Where the first of each service should listen.
#[derive(Debug)]
pub(super) struct Wanted(Vec<(Service, SocketAddr)>);

/// Where each replica listens.
#[derive(Debug, Default)]
pub(super) struct Places(pub(super) Vec<(Service, SocketAddr)>);

impl Wanted {
    /// From the variables that the services know, which here default to loopback addresses.
    pub(super) async fn from_environment() -> Result<Self> {
        let mut wanted = Vec::new();
        for service in Service::ALL {
            let variable = service.bind_variable();
            let default = format!("127.0.0.1:{}", default_port(service));
            let value =
                env::var(variable).ok().filter(|value| !value.is_empty()).unwrap_or(default);
            let address = lookup_host(&value).await.ok().and_then(|mut found| found.next());
            let Some(address) = address else {
                bail!("{variable}: `{value}` is not an address with a port")
            };
            wanted.push((service, address));
        }
        Ok(Self(wanted))
    }

    /// A free place for each replica, the wanted one for the first where it is free.
    pub(super) fn places(&self, options: &Options, steps: Steps) -> Result<Places> {
        let mut places = Places::default();
        for (service, wanted) in &self.0 {
            for number in 1..=options.replicas(*service) {
                let wanted = if number == 1 { *wanted } else { SocketAddr::new(wanted.ip(), 0) };
                let place = places.free(wanted)?;
                if wanted.port() != 0 && place != wanted {
                    steps.say(&format!(
                        "{wanted} is taken: the {} listens on {place}",
                        service.binary()
                    ));
                }
                places.0.push((*service, place));
            }
        }
        Ok(places)
    }
}

impl Places {
    /// The first broadcaster's URL, for the gateways.
    pub(super) fn broadcaster_url(&self) -> Option<String> {
        self.0
            .iter()
            .find(|(service, _)| *service == Service::Broadcaster)
            .map(|(_, place)| url(*place))
    }

    fn free(&self, wanted: SocketAddr) -> Result<SocketAddr> {
        if wanted.port() != 0 && self.is_free(wanted) {
            return Ok(wanted);
        }
        for _ in 0..100 {
            let place = SocketAddr::new(wanted.ip(), free_port()?);
            if self.is_free(place) {
                return Ok(place);
            }
        }
        bail!("no free port on {}", wanted.ip())
    }

    fn is_free(&self, place: SocketAddr) -> bool {
        !self.0.iter().any(|(_, taken)| taken.port() == place.port())
            && TcpListener::bind(place).is_ok()
    }
}

/// The URL by which this machine reaches what listens there.
pub(super) fn url(place: SocketAddr) -> String {
    let ip = if place.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { place.ip() };
    format!("http://{}", SocketAddr::new(ip, place.port()))
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
    fn a_taken_port_is_avoided_and_no_place_is_given_twice() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = holder.local_addr().unwrap();
        let mut places = Places::default();
        let place = places.free(taken).unwrap();
        assert_ne!(place, taken);
        places.0.push((Service::Gateway, place));
        assert_ne!(places.free(place).unwrap(), place);
        drop(holder);
    }

    #[test]
    fn an_unspecified_address_is_reached_by_loopback() {
        assert_eq!(url("0.0.0.0:8000".parse().unwrap()), "http://127.0.0.1:8000");
        assert_eq!(url("[::1]:8000".parse().unwrap()), "http://[::1]:8000");
    }
}
