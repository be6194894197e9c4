//! Runs one statement of SQL, which it reads, with iceberg-rust's REST catalog and its tables for DataFusion; writes the answer as
//! an Arrow IPC stream. `iceberg-rust URI WAREHOUSE`, with a bearer token in `ICEBERG_TOKEN`; the catalog is called `lake`.

use std::collections::HashMap;
use std::error::Error;
use std::io::{Read, stdin, stdout};
use std::sync::Arc;

use arrow::ipc::writer::StreamWriter;
use datafusion::prelude::SessionContext;
use iceberg::CatalogBuilder;
use iceberg::io::LocalFsStorageFactory;
use iceberg_catalog_rest::RestCatalogBuilder;
use iceberg_datafusion::IcebergCatalogProvider;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, warehouse] = arguments.as_slice() else { return Err("iceberg-rust URI WAREHOUSE".into()) };
    let mut statement = String::new();
    stdin().read_to_string(&mut statement)?;

    let properties = [("uri", uri.clone()), ("warehouse", warehouse.clone()), ("token", std::env::var("ICEBERG_TOKEN")?)];
    let properties: HashMap<String, String> = properties.map(|(key, value)| (key.to_owned(), value)).into();
    let builder = RestCatalogBuilder::default().with_storage_factory(Arc::new(LocalFsStorageFactory));
    let catalog = builder.load("lake", properties).await?;

    let session = SessionContext::new();
    session.register_catalog("lake", Arc::new(IcebergCatalogProvider::try_new(Arc::new(catalog)).await?));
    let frame = session.sql(&statement).await?;
    let schema = frame.schema().inner().clone();
    let batches = frame.collect().await?;
    let mut answer = StreamWriter::try_new(stdout().lock(), batches.first().map_or(&schema, |batch| batch.schema_ref()))?;
    for batch in &batches {
        answer.write(batch)?;
    }
    Ok(answer.finish()?)
}
