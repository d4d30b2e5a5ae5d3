"""Pure torch: generators, heads, students, losses, metrics."""

import os

# From 1.29 on onnxruntime tells Microsoft of every process and session, unless this stands before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
