"""Files of documents through a bundle: `lat-export run BUNDLE --input FILE --output FILE`.

In the order in which the data pass: `job` (what is asked for), `source` with `jsonl_source` and `parquet_source` (a
file cut into chunks of rows), `answering` (rows -> batches -> answers), `spool` and `store` (answers on disk, whatever
is killed when), `parquet` (lines -> a table), and `run`, which calls them; `ray_cluster` does the answering elsewhere.
"""

from lat_export.documents.job import Job
from lat_export.documents.run import Progress, Summary, run_documents

__all__ = ["Job", "Progress", "Summary", "run_documents"]
