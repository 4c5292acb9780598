use tonic::{
    Code,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, StdError},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Kind, Probe};
use crate::Status;

/// An answer is two bytes.
const MOST_OF_ANSWER: usize = 1024;

impl Probe {
    /// Asks `grpc.health.v1.Health/Check` for this service, through a clone of the channel; the empty name asks for the server
    /// as a whole. `SERVING` is well. Of an error its code is shown, and not what the server wrote.
    pub fn grpc<T>(channel: T, service: impl Into<String>) -> Self
    where
        T: GrpcService<Body, Error: Into<StdError>, Future: Send> + Clone + Send + 'static,
        T::ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    {
        let client = HealthClient::new(channel).max_decoding_message_size(MOST_OF_ANSWER);
        let service = service.into();
        Self::of(Kind::Component, move || {
            let (mut client, service) = (client.clone(), service.clone());
            async move {
                match client.check(HealthCheckRequest { service }).await {
                    Ok(answer) => match answer.into_inner().status() {
                        ServingStatus::Serving => Status::Well,
                        other => Status::down(format_args!("it says {}", other.as_str_name())),
                    },
                    Err(error) => Status::down(match error.code() {
                        Code::NotFound => "the server does not know this service",
                        Code::Unimplemented => "the server has no grpc.health.v1.Health",
                        code => code.description(),
                    }),
                }
            }
        })
    }
}
