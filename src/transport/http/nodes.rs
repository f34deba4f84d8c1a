//! For admins: the nodes of the cluster.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::extract::Caller;
use crate::base::clock::rfc3339;
use crate::base::error::Refusal;
use crate::cluster::Node;
use crate::model::access::only_staff;
use crate::transport::site::Site;

/// The nodes that share this server's database.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// The number of the node that answers
    this: u16,
    nodes: Vec<OneNode>,
}

/// One node, as it last said itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OneNode {
    id: String,
    /// From 1 to 4095
    number: u16,
    /// `host:port` for requests of other nodes
    address: Option<String>,
    version: String,
    /// How many migrations it knows
    schema: i32,
    draining: bool,
    /// When it was last alive; every second
    #[schema(value_type = String, format = "date-time")]
    seen_at: String,
    /// Its own figures: sockets, position in the log
    #[schema(value_type = serde_json::Value)]
    figures: Option<Box<RawValue>>,
}

impl From<&Node> for OneNode {
    fn from(node: &Node) -> Self {
        Self {
            id: node.id.clone(),
            number: node.number,
            address: node.address.clone(),
            version: node.version.clone(),
            schema: node.schema,
            draining: node.draining,
            seen_at: rfc3339(node.seen_at),
            figures: node.figures.clone().and_then(|figures| RawValue::from_string(figures).ok()),
        }
    }
}

/// The nodes that are alive, their versions and figures
#[utoipa::path(
    get, path = "/cluster", tag = "operation", security(("bearer" = [])), responses((status = 200, body = Nodes))
)]
pub(super) async fn list(State(site): State<Site>, Caller(who): Caller) -> Result<Json<Nodes>, Refusal> {
    only_staff(&who)?;
    let cluster = &site.app.cluster;
    Ok(Json(Nodes { this: cluster.number(), nodes: cluster.roster().iter().map(OneNode::from).collect() }))
}
