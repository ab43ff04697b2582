//! Tokens that a client of librdkafka asks for. They are fetched on a thread of their own, for whoever takes the client's
//! events must not wait for a server.

use std::ffi::CString;
use std::ptr;
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::bindings as sys;
use rdkafka::client::OAuthToken;

use crate::store::kafka::admin::text;
use crate::store::kafka::token;

/// Room for librdkafka's words on a token that it does not take.
const WORDS: usize = 512;

type Fetched = Result<OAuthToken, String>;

/// What has been fetched and not yet handed to the client. It is looked at once for each event, and an event has the
/// reports of a whole batch.
#[derive(Default)]
pub(super) struct Tokens(Arc<Mutex<Option<Fetched>>>);

impl Tokens {
    /// Begins to fetch one.
    pub(super) fn fetch(&self, request: String) {
        let arrived = Arc::clone(&self.0);
        let fetch = move || {
            let fetched = token::fetch(Some(&request)).map_err(|error| error.to_string());
            *arrived.lock() = Some(fetched);
        };
        if let Err(error) = std::thread::Builder::new().name("kafka-token".to_owned()).spawn(fetch) {
            *self.0.lock() = Some(Err(format!("no thread to fetch a token: {error}")));
        }
    }

    /// Hands over what has arrived.
    ///
    /// # Safety
    /// `client` must be alive.
    pub(super) unsafe fn hand_over(&self, client: *mut sys::rd_kafka_t) {
        let Some(fetched) = self.0.lock().take() else { return };
        let failure = match fetched {
            // SAFETY: as above.
            Ok(token) => unsafe { set(client, token) }.err(),
            Err(failure) => Some(failure),
        };
        if let Some(failure) = failure.and_then(|failure| CString::new(failure).ok()) {
            // SAFETY: as above; the text is copied. The error is that the client speaks another mechanism.
            unsafe {
                sys::rd_kafka_oauthbearer_set_token_failure(client, failure.as_ptr());
            }
        }
    }
}

/// # Safety
/// `client` must be alive.
unsafe fn set(client: *mut sys::rd_kafka_t, token: OAuthToken) -> Result<(), String> {
    let OAuthToken { token, principal_name, lifetime_ms } = token;
    let (Ok(token), Ok(principal)) = (CString::new(token), CString::new(principal_name)) else {
        return Err("the token has a null character".to_owned());
    };
    let mut why = [0; WORDS];
    // SAFETY: as above. Token and principal are copied, there are no extensions, and `why` is written within its length
    // and ends with a null character.
    unsafe {
        let error = sys::rd_kafka_oauthbearer_set_token(
            client,
            token.as_ptr(),
            lifetime_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            why.as_mut_ptr(),
            why.len(),
        );
        match error {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            _ => Err(text(why.as_ptr()).into_owned()),
        }
    }
}
