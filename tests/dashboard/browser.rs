//! A headless Chromium, and what the tests ask it.

use std::{env, fs, net::SocketAddr, path::PathBuf, time::Duration};

use buttress_testkit::{Chromium, Screen};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Browser {
    pub(crate) client: Client,
    _chromium: Chromium,
}

impl Browser {
    /// None, and a loud line, where no Chromium can be had. In CI there has to be one.
    pub(crate) async fn start(screen: Screen) -> Option<Self> {
        let chromium = match Chromium::try_start().await {
            Ok(chromium) => chromium,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && env::var_os("CI").is_none() => {
                eprintln!("\n!!! SKIPPED: the live page is NOT tested: {error}\n");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(chromium.capabilities(screen))
            .connect(&chromium.url())
            .await
            .unwrap();
        Some(Self { client, _chromium: chromium })
    }

    /// Opens the page and waits for its first figures.
    pub(crate) async fn open(&self, address: SocketAddr) {
        self.client.goto(&format!("http://{address}/")).await.unwrap();
        self.until("return document.getElementById('stream').textContent === 'Live'").await;
    }

    pub(crate) async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    pub(crate) async fn text(&self, selector: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        let text = self.client.execute(script, vec![selector.into()]).await.unwrap();
        text.as_str().unwrap().to_owned()
    }

    /// Waits until the script returns `true`.
    pub(crate) async fn until(&self, script: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.ask(script).await != Value::Bool(true) {
            if Instant::now() > deadline {
                let page = self.text("body").await;
                self.picture("failed").await;
                panic!("it never was: {script}\nthe page says:\n{page}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn assert_nothing_is_wider_than_the_screen(&self) {
        let wide = self
            .ask(
                "const wide = [...document.querySelectorAll('body *')]
                    .filter(it => it.getBoundingClientRect().right > innerWidth + 1 && !it.closest('svg'))
                    .map(it => it.tagName + '.' + it.className);
                return [document.documentElement.scrollWidth <= innerWidth, innerWidth, wide]",
            )
            .await;
        assert!(wide[0] == true && wide[2].as_array().unwrap().is_empty(), "{wide}");
    }

    /// Writes what is seen to `target/screenshots`, for people to look at.
    pub(crate) async fn picture(&self, name: &str) {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{name}.png")), self.client.screenshot().await.unwrap()).unwrap();
    }

    pub(crate) async fn close(self) {
        self.client.clone().close().await.unwrap();
    }
}

/// The card of a layer, as a selector.
pub(crate) fn card(layer: &str, name: &str) -> String {
    format!(".card[data-layer='{layer}'][data-name='{name}']")
}

/// Whether the state on a card is that, as a script.
pub(crate) fn state_is(layer: &str, name: &str, state: &str) -> String {
    format!("return document.querySelector(\"{} .pill\")?.textContent === '{state}'", card(layer, name))
}
