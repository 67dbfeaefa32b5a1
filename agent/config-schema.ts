/**
 * Owns the keys of the agent's boot config as users write them, with their words, bounds and defaults.
 * What no schema can say is judged in `config-reader.ts`. Longer than most: one key after another.
 */

import { Type } from '#shared/schema/type.ts'

const text = (maxLength: number, description: string) =>
  Type.String({ minLength: 1, maxLength, description })
const closed = { additionalProperties: false }
const milliseconds = (usual: number, description: string) =>
  Type.Integer({
    minimum: 100,
    maximum: 86_400_000,
    description: `milliseconds ${description}`,
    default: usual,
  })

/** JSON Schema of the agent's config; checked against `docs/configuration.md` by a test. */
export const agentConfigSchema = Type.Object(
  {
    $schema: Type.Optional(text(1024, 'where editors find this schema')),
    host: Type.Optional(
      text(63, 'name of this host in the mesh; default: its host name up to the first dot'),
    ),
    zone: Type.String({ maxLength: 63, description: 'zone or rack of this host', default: '' }),
    address: Type.Optional(
      text(
        45,
        'IP address other hosts reach this one at; default: the first one that is not loopback',
      ),
    ),
    controller: text(
      2000,
      'where the controller is: "host:port"; of several, any or all, with commas between',
    ),
    joinTokenFile: Type.Optional(
      text(4096, 'file that holds the join token; needed until the host has enrolled'),
    ),
    paths: Type.Object(
      {
        manifests: Type.String({
          minLength: 1,
          maxLength: 4096,
          description: 'directory of the manifests',
          default: '/etc/mesh.d',
        }),
        policies: Type.String({
          minLength: 1,
          maxLength: 4096,
          description: 'directory of the policy files, root’s or the agent’s own',
          default: '/etc/mesh/policies.d',
        }),
        state: Type.String({
          minLength: 1,
          maxLength: 4096,
          description: 'directory of keys, certificates and the last view of the mesh',
          default: '/var/lib/mesh/agent',
        }),
        run: Type.String({
          minLength: 1,
          maxLength: 4096,
          description: 'directory of sockets and receipts',
          default: '/run/mesh/agent',
        }),
      },
      closed,
    ),
    listen: Type.Object(
      {
        tunnel: Type.String({
          maxLength: 60,
          description: 'where far agents connect, "address:port"',
          default: '0.0.0.0:15008',
        }),
        forwardProxy: Type.String({
          maxLength: 60,
          description: 'loopback "address:port" where local programs with http_proxy connect',
          default: '127.0.0.1:15002',
        }),
        applications: Type.String({
          maxLength: 60,
          description:
            'loopback "address:port" of the API for applications, beside http://agent.mesh/ where connections are captured',
          default: '127.0.0.1:15004',
        }),
        metrics: Type.String({
          maxLength: 60,
          description: 'where metrics and readiness are read, "address:port"',
          default: '0.0.0.0:15020',
        }),
        dns: Type.String({
          maxLength: 60,
          description:
            'loopback "address:port" where <service>.mesh is resolved while connections are captured',
          default: '127.0.0.1:15053',
        }),
        explicit: Type.String({
          maxLength: 45,
          description: 'loopback address on which the ports of upstreams are opened',
          default: '127.0.0.1',
        }),
      },
      closed,
    ),
    users: Type.Record(
      Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_.-]{0,63}$' }),
      Type.Array(
        Type.String({
          minLength: 1,
          maxLength: 63,
          description: 'a service name in which "*" may stand for any characters',
        }),
        { maxItems: 100, description: 'names of services, with "*" for any characters' },
      ),
      {
        additionalProperties: false,
        maxProperties: 1000,
        description:
          'services that local users may register beside the one of their own name: {"alice": ["web-*"]}',
        default: {},
      },
    ),
    inboundSource: Type.String({
      maxLength: 45,
      description: 'source address of connections to local services: loopback, but not 127.0.0.1',
      default: '127.0.0.6',
    }),
    accessLog: Type.Enum(['on', 'errors', 'off'], {
      description: 'which requests leave a line in the log',
      default: 'on',
    }),
    capture: Type.Optional(
      Type.Enum(['on', 'off'], {
        description:
          'whether the kernel leads connections to services into the mesh; default: on where the agent may change the network and nft is there',
      }),
    ),
    capturePorts: Type.Integer({
      minimum: 1024,
      maximum: 62_536,
      description: 'first of the 3000 ports at which captured connections arrive',
      default: 17_000,
    }),
    egress: Type.Enum(['allow-any', 'registry-only'], {
      description:
        'what services of this host may reach outside it: anything, or only what the mesh knows and captureExclude names',
      default: 'allow-any',
    }),
    captureExclude: Type.Object(
      {
        ports: Type.Array(Type.Integer({ minimum: 1, maximum: 65_535 }), {
          maxItems: 256,
          description: 'ports that are never captured, beside 22 and the mesh’s own',
          default: [],
        }),
        addresses: Type.Array(Type.String({ maxLength: 50 }), {
          maxItems: 256,
          description: 'IP addresses or ranges, "10.0.0.0/8", that are never captured',
          default: [],
        }),
        users: Type.Array(Type.String({ minLength: 1, maxLength: 33 }), {
          maxItems: 256,
          description: 'users, by name or number, whose connections are left alone',
          default: [],
        }),
      },
      closed,
    ),
    log: Type.Object(
      {
        level: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'], {
          description: 'least severe lines that are logged',
          default: 'info',
        }),
      },
      closed,
    ),
    maxConnections: Type.Integer({
      minimum: 1,
      maximum: 10_000_000,
      description: 'connections of callers open at once on this host; more are refused at once',
      default: 20_000,
    }),
    workers: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 64,
        description: 'proxy workers, which share all ports; default: one for 4 cores, 4 at most',
      }),
    ),
    systemDns: Type.Enum(['off', 'auto', 'resolved', 'resolv-conf'], {
      description:
        'how programs come to ask listen.dns: by a drop-in of systemd-resolved, by /etc/resolv.conf (port 53 only), or as you arrange it',
      default: 'off',
    }),
    drainMs: Type.Integer({
      minimum: 0,
      maximum: 86_400_000,
      description: 'milliseconds a stopping worker waits for open requests',
      default: 30_000,
    }),
    retireMs: Type.Integer({
      minimum: 0,
      maximum: 604_800_000,
      description: 'milliseconds workers that an upgrade has replaced may keep long connections',
      default: 86_400_000,
    }),
    wholeMesh: Type.Integer({
      minimum: 0,
      maximum: 1_000_000,
      description:
        'instances up to which the agent follows the whole mesh; of a larger one only the services this host uses',
      default: 10_000,
    }),
    limits: Type.Object(
      {
        headBytes: Type.Integer({
          minimum: 1024,
          maximum: 1_048_576,
          description: 'most bytes of the head of a request or response; past it 431, or 502',
          default: 65_536,
        }),
        headFields: Type.Integer({
          minimum: 10,
          maximum: 10_000,
          description: 'most header fields of a request or response; past it 431, or 502',
          default: 100,
        }),
        headMs: milliseconds(10_000, 'for the head of a request; past it 408'),
        bodyIdleMs: milliseconds(
          60_000,
          'until the body of a request begins, and between two pieces of it; past it 408',
        ),
        responseIdleMs: milliseconds(
          300_000,
          'until a response begins, and between two pieces of it; past it 504',
        ),
        idleMs: milliseconds(300_000, 'a kept-alive connection waits for the next request'),
      },
      closed,
    ),
  },
  { ...closed, $id: 'urn:hostmesh:agent-config:1', title: 'Hostmesh agent config' },
)
