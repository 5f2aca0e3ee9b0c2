"""A gallery on a web page and as an HTTP API: FastAPI on uvicorn, one page, plain JavaScript."""
