/** Owns nginx as origin and as peer: a plain hop, and an mTLS pair with keep-alive upstreams. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** The address and port of something. */
export interface Address {
  readonly address: string
  readonly port: number
}

/** Files of a certificate that serves both sides of a pair, and its CA. */
export interface PairFiles {
  readonly cert: string
  readonly key: string
  readonly ca: string
  /** The DNS name in the certificate. */
  readonly name: string
}

/** Writes an nginx config with its own prefix; answers nginx's arguments. */
function nginx(dir: string, name: string, http: string): string[] {
  const prefix = join(dir, name)
  mkdirSync(prefix, { recursive: true })
  const file = join(prefix, 'nginx.conf')
  writeFileSync(
    file,
    `${process.getuid?.() === 0 ? 'user root;' : ''} daemon off; worker_processes 1; pid ${prefix}/nginx.pid; error_log stderr warn;
worker_rlimit_nofile 65536;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300; tcp_nodelay on;
  client_max_body_size 0; client_body_buffer_size 2m;
  client_body_temp_path ${prefix}/b; proxy_temp_path ${prefix}/p; fastcgi_temp_path ${prefix}/f;
  uwsgi_temp_path ${prefix}/u; scgi_temp_path ${prefix}/s;
${http}
}
`,
  )
  return ['-p', prefix, '-c', file]
}

/** An origin, on two ports, that answers some 130 bytes at `/`, 1 MiB at `/big`, and takes bodies at `/sink`. */
export function nginxOrigin(
  dir: string,
  addresses: readonly string[],
  ports: { readonly http: number; readonly raw: number },
): string[] {
  const html = join(dir, 'html')
  mkdirSync(html, { recursive: true })
  writeFileSync(join(html, 'big'), Buffer.alloc(1 << 20, 'x'))
  return nginx(
    dir,
    'origin',
    `  sendfile on;
  server {
    ${[ports.http, ports.raw]
      .flatMap((port) => addresses.map((it) => `listen ${it}:${port} backlog=8192;`))
      .join(' ')}
    # Reads a whole body before it answers.
    location = /sink {
      proxy_pass http://${addresses[0]}:${ports.raw}/; proxy_http_version 1.1;
      proxy_pass_request_body off; proxy_set_header Content-Length "";
    }
    location = /big { root ${html}; }
    location / { return 200 "${'x'.repeat(10)}"; }
  }`,
  )
}

/** One plain hop. */
export function nginxHop(dir: string, at: Address, to: Address): string[] {
  return nginx(
    dir,
    `hop-${at.port}`,
    `  upstream o { server ${to.address}:${to.port}; keepalive 1024; keepalive_requests 1000000000; }
  server {
    listen ${at.address}:${at.port} backlog=8192;
    location / { proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }`,
  )
}

/** The caller's half of a pair. */
export function nginxPairCaller(dir: string, at: Address, to: Address, files: PairFiles): string[] {
  return nginx(
    dir,
    `pair-a-${at.port}`,
    `  upstream b { server ${to.address}:${to.port}; keepalive 1024; keepalive_requests 1000000000; }
  server {
    listen ${at.address}:${at.port} backlog=8192;
    location / {
      proxy_pass https://b; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_buffering on;
      proxy_ssl_certificate ${files.cert}; proxy_ssl_certificate_key ${files.key};
      proxy_ssl_trusted_certificate ${files.ca}; proxy_ssl_verify on; proxy_ssl_verify_depth 3;
      proxy_ssl_protocols TLSv1.3; proxy_ssl_server_name on; proxy_ssl_name ${files.name};
    }
  }`,
  )
}

/** The callee's half of a pair. */
export function nginxPairCallee(dir: string, at: Address, to: Address, files: PairFiles): string[] {
  return nginx(
    dir,
    `pair-b-${at.port}`,
    `  upstream o { server ${to.address}:${to.port}; keepalive 1024; keepalive_requests 1000000000; }
  server {
    listen ${at.address}:${at.port} ssl backlog=8192;
    ssl_certificate ${files.cert}; ssl_certificate_key ${files.key};
    ssl_client_certificate ${files.ca}; ssl_verify_client on; ssl_verify_depth 3;
    ssl_protocols TLSv1.3;
    location / {
      proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off;
    }
  }`,
  )
}
