# The server with the pocket models, or others by CSMKIT_PRESET. SageMaker starts it as "docker run IMAGE serve".
FROM python:3.11-slim

WORKDIR /opt/csmkit
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY csmkit csmkit
RUN pip install --no-cache-dir -c constraints.txt '.[serve]' \
    && useradd --create-home csmkit \
    && printf '#!/bin/sh\nexec csmkit serve --host 0.0.0.0 --port 8080 --without-token "$@"\n' > /usr/local/bin/serve \
    && chmod 755 /usr/local/bin/serve
USER csmkit
EXPOSE 8080
CMD ["csmkit", "serve", "--host", "0.0.0.0", "--port", "8080"]
