//! Kafka's protocol: which requests are answered, and how they reach their handlers.

mod fetch;
mod groups;
mod produce;
mod topics;

use std::net::SocketAddr;
use std::sync::Arc;

use rama::{Context, Layer, Service};
use tansu_broker::Error;
use tansu_broker::coordinator::group::administrator::Controller;
use tansu_broker::service::coordinator;
use tansu_sans_io::api_versions_response::ApiVersion;
use tansu_sans_io::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, Body, CreateTopicsRequest, DescribeConfigsRequest,
    ErrorCode, FetchRequest, FindCoordinatorRequest, Frame, Header, HeartbeatRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetFetchRequest, ProduceRequest, Request, SyncGroupRequest,
};
use tansu_service::{
    BytesFrameLayer, FrameRequestLayer, FrameRouteBuilder, FrameRouteService, ResponseService, TcpBytesLayer,
    TcpContext, TcpContextLayer,
};
use tansu_storage::StorageContainer;
use tokio::net::TcpStream;
use url::Url;

use super::DevError;
use super::log::Folder;

/// The one broker's id.
const NODE: i32 = 1;

/// Request kinds and the versions of them that are answered: where topics go by name, and groups one at a time.
const VERSIONS: [(i16, i16, i16); 15] = [
    (ProduceRequest::KEY, 3, 11),
    (FetchRequest::KEY, 4, 12),
    (ListOffsetsRequest::KEY, 1, 6),
    (MetadataRequest::KEY, 1, 12),
    (OffsetCommitRequest::KEY, 2, 8),
    (OffsetFetchRequest::KEY, 2, 7),
    (FindCoordinatorRequest::KEY, 0, 3),
    (JoinGroupRequest::KEY, 0, 9),
    (HeartbeatRequest::KEY, 0, 4),
    (LeaveGroupRequest::KEY, 0, 5),
    (SyncGroupRequest::KEY, 0, 5),
    (ApiVersionsRequest::KEY, 0, 4),
    (CreateTopicsRequest::KEY, 2, 7),
    (InitProducerIdRequest::KEY, 0, 4),
    (DescribeConfigsRequest::KEY, 1, 4),
];

/// What handlers need.
#[derive(Clone, Debug)]
struct Shared {
    folder: Arc<Folder>,
    address: SocketAddr,
}

/// The protocol, ready to serve connections.
#[derive(Clone, Debug)]
pub(super) struct Api(FrameRouteService<(), Error>);

impl Api {
    /// An API of the folder's topics for clients that reach it at `address`.
    pub(super) async fn new(folder: Arc<Folder>, address: SocketAddr) -> Result<Self, DevError> {
        let failed = |error: &dyn std::fmt::Display| DevError::Start(error.to_string());
        // Group membership is tansu's, in memory: consumers join again after a restart. Offsets are ours, on disk.
        let here = Url::parse(&format!("tcp://{address}")).map_err(|error| failed(&error))?;
        let null = Url::parse("null://memory").map_err(|error| failed(&error))?;
        let members = StorageContainer::builder()
            .cluster_id(folder.cluster_id())
            .node_id(NODE)
            .advertised_listener(here)
            .storage(null)
            .build()
            .await
            .map_err(|error| failed(&error))?;
        let members = Controller::with_storage(members).map_err(|error| failed(&error))?;
        let shared = Shared { folder, address };
        routes(&shared, &members).map(Self).map_err(|error| failed(&error))
    }

    /// Serves one connection to its end, its requests one after the other.
    pub(super) async fn serve(&self, stream: TcpStream) -> Result<(), Error> {
        let layers = (
            TcpContextLayer::new(TcpContext::default()),
            TcpBytesLayer::default(),
            BytesFrameLayer::default(),
        );
        layers.into_layer(Versions(self.0.clone())).serve(Context::default(), stream).await
    }
}

fn routes(
    shared: &Shared,
    members: &Controller<StorageContainer>,
) -> Result<FrameRouteService<(), Error>, Error> {
    let builder = FrameRouteService::<(), Error>::builder();
    let builder = route(builder, shared, produce::produce)?;
    let builder = route(builder, shared, produce::init_producer_id)?;
    let builder = route(builder, shared, fetch::list_offsets)?;
    let builder = route(builder, shared, topics::metadata)?;
    let builder = route(builder, shared, topics::create_topics)?;
    let builder = route(builder, shared, topics::describe_configs)?;
    let builder = route(builder, shared, groups::find_coordinator)?;
    let builder = route(builder, shared, groups::offset_commit)?;
    let builder = route(builder, shared, groups::offset_fetch)?;
    let fetch = FrameRequestLayer::<FetchRequest>::new().into_layer(fetch::Fetch(shared.clone()));
    let builder = builder.with_route(FetchRequest::KEY, fetch.boxed())?;
    let builder = coordinator::join_group(builder, members.clone())?;
    let builder = coordinator::sync_group(builder, members.clone())?;
    let builder = coordinator::heartbeat(builder, members.clone())?;
    let builder = coordinator::leave_group(builder, members.clone())?;
    Ok(builder.build()?)
}

fn route<Q: Request>(
    builder: FrameRouteBuilder<(), Error>,
    shared: &Shared,
    handler: fn(&Shared, Q) -> Q::Response,
) -> Result<FrameRouteBuilder<(), Error>, Error>
where
    Error: From<<Q as TryFrom<Body>>::Error>,
{
    let shared = shared.clone();
    let service =
        ResponseService::new(move |_: Context<()>, request: Q| Ok::<_, Error>(handler(&shared, request)));
    Ok(builder.with_route(Q::KEY, FrameRequestLayer::<Q>::new().into_layer(service).boxed())?)
}

/// Answers `ApiVersions` with [`VERSIONS`], where the library would name all that it can parse.
#[derive(Clone, Debug)]
struct Versions(FrameRouteService<(), Error>);

impl Service<(), Frame> for Versions {
    type Response = Frame;
    type Error = Error;

    async fn serve(&self, context: Context<()>, request: Frame) -> Result<Frame, Error> {
        if request.api_key()? != ApiVersionsRequest::KEY {
            return self.0.serve(context, request).await;
        }
        let correlation_id = request.correlation_id()?;
        let keys = VERSIONS
            .iter()
            .map(|&(key, min, max)| ApiVersion::default().api_key(key).min_version(min).max_version(max))
            .collect();
        let response = ApiVersionsResponse::default()
            .error_code(ErrorCode::None.into())
            .api_keys(Some(keys))
            // No tagged fields: librdkafka before 2.1 (Debian's kcat) cannot skip them.
            .throttle_time_ms(Some(0));
        Ok(Frame { size: 0, header: Header::Response { correlation_id }, body: response.into() })
    }
}
