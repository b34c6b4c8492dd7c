//! What graphics processors tell of themselves: NVIDIA's, if their library is there when the program runs.

use serde_json::{Value, json};

/// A graphics processor that mines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The backend's name: "gpu 0".
    pub backend: String,
    /// Where it sits: "0000:0a:00.0", or without the domain.
    pub bus: String,
}

/// Asks cards how they are.
#[derive(Default)]
pub struct Health {
    cards: Vec<Card>,
    #[cfg(feature = "nvml")]
    library: Option<nvml_wrapper::Nvml>,
}

impl Health {
    /// Opens what there is to ask.
    pub fn new(cards: Vec<Card>) -> Self {
        #[cfg(feature = "nvml")]
        let library = if cards.is_empty() { None } else { nvml_wrapper::Nvml::init().ok() };
        Self {
            cards,
            #[cfg(feature = "nvml")]
            library,
        }
    }

    /// Where a backend's card sits; `None`: it is none, or nobody knows.
    pub fn bus(&self, backend: &str) -> Option<&str> {
        self.cards.iter().find(|card| card.backend == backend).map(|card| card.bus.as_str())
    }

    /// °C, W, MHz, MHz and per cent of each fan; null where the card does not tell.
    pub fn read(&self, backend: &str) -> Value {
        self.bus(backend).and_then(|bus| self.of_card(bus)).unwrap_or_else(|| {
            json!({ "temperature": null, "power": null, "clock": null, "mem_clock": null, "fan_speed": [] })
        })
    }

    #[cfg(feature = "nvml")]
    fn of_card(&self, bus: &str) -> Option<Value> {
        use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

        let card = self.library.as_ref()?.device_by_pci_bus_id(bus).ok()?;
        let fans = (0..card.num_fans().unwrap_or(0)).filter_map(|fan| card.fan_speed(fan).ok());
        Some(json!({
            "temperature": card.temperature(TemperatureSensor::Gpu).ok(),
            "power": card.power_usage().ok().map(|milliwatts| milliwatts / 1000),
            "clock": card.clock_info(Clock::SM).ok(),
            "mem_clock": card.clock_info(Clock::Memory).ok(),
            "fan_speed": fans.collect::<Vec<_>>(),
        }))
    }

    #[cfg(not(feature = "nvml"))]
    fn of_card(&self, _: &str) -> Option<Value> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_nobody_can_ask_has_all_keys_and_no_values() {
        let health = Health::new(vec![Card { backend: "gpu 0".into(), bus: "ff:1f.7".into() }]);
        for backend in ["gpu 0", "gpu 1"] {
            let read = health.read(backend);
            assert!(read["fan_speed"].as_array().is_some_and(Vec::is_empty), "{read}");
            for key in ["temperature", "power", "clock", "mem_clock"] {
                assert!(read.get(key).is_some_and(Value::is_null), "{read}");
            }
        }
        assert_eq!((health.bus("gpu 0"), health.bus("gpu 1")), (Some("ff:1f.7"), None));
    }

    /// Where there is such a card, its library tells its values.
    #[cfg(feature = "nvml")]
    #[test]
    fn a_card_of_nvidias_tells_how_it_is() {
        let Ok(library) = nvml_wrapper::Nvml::init() else { return };
        let Ok(pci) = library.device_by_index(0).and_then(|card| card.pci_info()) else { return };
        let health = Health::new(vec![Card { backend: "gpu 0".into(), bus: pci.bus_id }]);
        let read = health.read("gpu 0");
        for key in ["temperature", "power", "clock", "mem_clock"] {
            assert!(read[key].as_u64() > Some(0), "{read}");
        }
    }
}
