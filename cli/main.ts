/**
 * Owns `meshctl`'s command line: verbs, options, environment and exit codes. Home of commander; what
 * a verb does is in the verb's own file. Longer than others: every verb and option stands here once.
 */

import { userInfo } from 'node:os'
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { systemClock, type Clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { openOperatorClient } from '#shared/rpc/operator-file.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import { authzExplain, authzList } from './authz.ts'
import { caAbort, caRotate, caStatus, type CaParts } from './ca.ts'
import { check } from './check.ts'
import { AdminSocket } from './client/admin-socket.ts'
import { systemdUnits } from './client/service-units.ts'
import { exitCodes } from './exit-codes.ts'
import { healthRun, healthTell } from './health.ts'
import { hostBan, hostList, hostServices, hostUnban, type Whom } from './host.ts'
import { init } from './init.ts'
import { join } from './join.ts'
import { manifestApply } from './manifest-apply.ts'
import { manifestStatus, manifestValidate } from './manifest.ts'
import { Printer } from './output/printer.ts'
import { clean } from './output/table.ts'
import { drain, maintenance, undrain } from './rotation.ts'
import { schema } from './schema.ts'
import { services } from './services.ts'
import { status } from './status.ts'
import { openStoreAsOperator } from './client/store.ts'
import { certList } from './cert.ts'
import { controllerAdmit, controllerList } from './controllers.ts'
import { storeCertificate } from './store-certificate.ts'
import { storeBackup, storeInit, storeMigrate, storeStatus, storeUndoMigration } from './store.ts'
import { parseTtl, tokenCreate } from './token.ts'

interface WaitOptions {
  readonly wait: boolean
  readonly timeout: number
}

interface CommonOptions {
  readonly socket: string
  readonly credential: string
  readonly controller?: string
  readonly json: boolean
}

interface MigrateOptions {
  readonly to?: readonly string[]
  readonly replace: boolean
  readonly undo: boolean
}

const streams = {
  out: (text: string) => void process.stdout.write(text),
  err: (text: string) => void process.stderr.write(text),
}

/** As the machine's, but whoever waits by it keeps this process alive. */
const waitingClock: Clock = {
  ...systemClock,
  after(ms, run) {
    const timer = setTimeout(run, ms)
    return { stop: () => clearTimeout(timer) }
  },
}

const program = new Command('meshctl')
  .description('look at and steer a service mesh of one agent per host')
  .addOption(
    new Option('--socket <path>', 'admin socket of the agent')
      .env('MESH_AGENT_SOCKET')
      .default('/run/mesh/agent/agent.sock'),
  )
  .addOption(
    new Option('--credential <file>', 'credential of an operator')
      .env('MESH_OPERATOR')
      .default('/var/lib/mesh/controller/operator.json'),
  )
  .addOption(
    new Option('--controller <host:port>', 'controller, instead of the one in the credential').env(
      'MESH_CONTROLLER',
    ),
  )
  .option('--json', 'print one JSON value', false)
  .exitOverride()
  .configureHelp({ showGlobalOptions: true })

/** The options, also where they stand behind the verb. */
function common(): CommonOptions {
  return program.opts<CommonOptions>()
}

function printer(): Printer {
  return new Printer({ streams }, { json: common().json })
}

function local(): { readonly agent: AdminSocket; readonly printer: Printer } {
  return { agent: new AdminSocket({ socketPath: common().socket }), printer: printer() }
}

function openController(): Promise<ControllerClient> {
  const { credential, controller } = common()
  return openOperatorClient(
    { clock: systemClock },
    { file: credential, ...(controller === undefined ? {} : { controller }) },
  )
}

async function withController(
  run: (controller: ControllerClient) => Promise<number>,
): Promise<number> {
  const client = await openController()
  try {
    return await run(client)
  } finally {
    client.close()
  }
}

function done(code: number | Promise<number>): Promise<void> {
  return Promise.resolve(code).then((value) => void (process.exitCode = value))
}

function ttl(text: string): number {
  const ms = parseTtl(text)
  if (ms === null) throw new InvalidArgumentError('write 90s, 15m, 2h or 1d')
  return ms
}

function count(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('write a number')
  return Number(text)
}

function urls(text: string): readonly string[] {
  return text.split(',').map((part) => part.trim())
}

function list(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value]
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended by itself.
  }
}

const said = { pass: 'passes', warn: 'warns', fail: 'fails' } as const

function verb(parent: Command, name: string, description: string): Command {
  return parent.command(name).description(description)
}

verb(program, 'status', 'what this host’s agent is and how it fares').action(() =>
  done(status(local())),
)
verb(program, 'services', 'services this host can call, and where they are').action(() =>
  done(services(local())),
)
verb(program, 'check', 'everything that is wrong here, with cause and fix').action(() =>
  done(check(local())),
)

const manifest = verb(program, 'manifest', 'the files that put services into the mesh')
verb(manifest, 'status', 'what became of the files dropped on this host').action(() =>
  done(manifestStatus(local())),
)
verb(manifest, 'validate <files...>', 'read files as the agent would').action((files: string[]) =>
  done(manifestValidate({ printer: printer() }, { files })),
)

const authz = verb(program, 'authz', 'who may call the services of this host')
verb(authz, 'list', 'the policy of each service here, and whether it protects it').action(() =>
  done(authzList(local())),
)
verb(authz, 'explain <source> <service> [method] [path]', 'whether a call is permitted, and why')
  .option('--host <name>', 'the Host of the request')
  .option('--header <name=value>', 'a field of the request (repeatable)', list)
  .action(
    (
      source: string,
      service: string,
      method: string | undefined,
      path: string | undefined,
      options: { readonly host?: string; readonly header?: readonly string[] },
    ) => {
      const { header: headers = [], ...rest } = options
      const question = { source, service, method: method ?? '', path: path ?? '/', headers }
      return done(authzExplain(local(), { ...question, ...rest }))
    },
  )

verb(manifest, 'apply <file>', 'put a file into the manifest directory, whole or not at all')
  .option('--wait', 'until the agent has made all of it that it asks for', false)
  .option('--timeout <time>', 'how long to wait at most: 30s, 5m', ttl, 30_000)
  .option('--directory <path>', 'manifest directory, instead of the one the agent names')
  .action(
    (
      file: string,
      options: { readonly wait: boolean; readonly timeout: number; readonly directory?: string },
    ) =>
      done(
        manifestApply(
          { ...local(), clock: systemClock },
          {
            file,
            user: userInfo().username,
            waitMs: options.wait ? options.timeout : 0,
            ...(options.directory === undefined ? {} : { directory: options.directory }),
          },
        ),
      ),
  )

verb(
  program,
  'drain <service-or-host>',
  'take a service of this host, or the host, out of rotation',
)
  .option('--reason <text>', 'for those who wonder later', '')
  .option('--wait', 'until nothing reaches it any more, so that it may be stopped', false)
  .option('--timeout <time>', 'how long to wait at most', ttl, 120_000)
  .action((target: string, options: WaitOptions & { readonly reason: string }) =>
    done(
      drain(
        { ...local(), clock: systemClock },
        { target, reason: options.reason, waitMs: options.wait ? options.timeout : 0 },
      ),
    ),
  )
verb(program, 'undrain <service-or-host>', 'put it back into rotation').action((target: string) =>
  done(undrain({ ...local(), clock: systemClock }, target)),
)
verb(program, 'maintenance', 'take this whole host out of rotation and back')
  .addArgument(new Argument('<on|off|status>').choices(['on', 'off', 'status']))
  .option('--reason <text>', 'for those who wonder later', '')
  .option('--wait', 'until nothing reaches its services any more', false)
  .option('--timeout <time>', 'how long to wait at most', ttl, 120_000)
  .action((wish: 'on' | 'off' | 'status', options: WaitOptions & { readonly reason: string }) =>
    done(
      maintenance(
        { ...local(), clock: systemClock },
        { wish, reason: options.reason, waitMs: options.wait ? options.timeout : 0 },
      ),
    ),
  )

const health = verb(program, 'health', 'bring results of push checks to the agent')
for (const outcome of ['pass', 'warn', 'fail'] as const) {
  verb(health, `${outcome} <service>`, `say that a check of a local service ${said[outcome]}`)
    .option('--check <name>', 'which check, where several wait for results')
    .option('--detail <text>', 'what was seen', '')
    .action((service: string, options: { readonly check?: string; readonly detail: string }) =>
      done(healthTell(local(), { service, outcome, ...options })),
    )
}
verb(health, 'run <service> <command...>', 'run a command and bring what it finds')
  .option('--check <name>', 'which check, where several wait for results')
  .option('--timeout <time>', 'how long the command may take', ttl, 30_000)
  .action(
    (
      service: string,
      command: string[],
      { timeout, ...options }: { readonly check?: string; readonly timeout: number },
    ) =>
      done(
        healthRun({ ...local(), killGroup }, { service, command, timeoutMs: timeout, ...options }),
      ),
  )

const token = verb(program, 'token', 'join tokens')
verb(token, 'create <host>', 'make the token with which a host joins once')
  .requiredOption('--service <glob>', 'service the host may speak for (repeatable)', list)
  .option('--ttl <time>', 'how long it may be used: 90s, 15m, 2h, 1d', ttl, 0)
  .action((host: string, options: { readonly service: readonly string[]; readonly ttl: number }) =>
    done(
      withController((controller) =>
        tokenCreate(
          { controller, printer: printer(), now: () => systemClock.now() },
          { host, services: options.service, ttlMs: options.ttl },
        ),
      ),
    ),
  )

const host = verb(program, 'host', 'hosts of the mesh')
verb(host, 'list', 'hosts that have joined').action(() =>
  done(withController((controller) => hostList({ controller, printer: printer() }))),
)

const store = verb(program, 'store', 'the store behind the mesh')
verb(store, 'status', 'where it is and how it fares').action(() =>
  done(withController((controller) => storeStatus({ controller, printer: printer() }))),
)
verb(store, 'backup <file>', 'write all of it into a new file').action((file: string) =>
  done(
    withController(async (controller) => {
      const opened = await openStoreAsOperator({ controller }, { credential: common().credential })
      try {
        return await storeBackup({ store: opened, printer: printer() }, { file })
      } finally {
        opened.close()
      }
    }),
  ),
)
interface BanOptions {
  readonly serial?: string
  readonly reason?: string
}

/** A host, or a certificate by its serial. */
function whom(host: string | undefined, { serial }: BanOptions): Whom {
  if ((host === undefined) === (serial === undefined)) {
    program.error('name either a host or --serial, not both')
  }
  return serial === undefined ? { kind: 'host', host: host ?? '' } : { kind: 'serial', serial }
}

verb(host, 'ban [host]', 'cut a host off, or one certificate, at once')
  .option('--serial <hex>', 'ban the certificate with this serial instead of a host')
  .option('--reason <text>', 'why; shown wherever it is refused', '')
  .action((name: string | undefined, options: BanOptions) => {
    const settings = { whom: whom(name, options), reason: options.reason ?? '' }
    return done(
      withController((controller) =>
        hostBan({ controller, printer: printer(), clock: waitingClock }, settings),
      ),
    )
  })
verb(host, 'unban [host]', 'lift a ban')
  .option('--serial <hex>', 'of the certificate with this serial')
  .action((name: string | undefined, options: BanOptions) => {
    const settings = { whom: whom(name, options) }
    return done(
      withController((controller) =>
        hostUnban({ controller, printer: printer(), clock: waitingClock }, settings),
      ),
    )
  })
verb(host, 'services <host>', 'which services a host may speak for')
  .option('--service <glob>', 'set that anew (repeatable)', list)
  .action((name: string, options: { readonly service?: readonly string[] }) =>
    done(
      withController((controller) =>
        hostServices(
          { controller, printer: printer() },
          { host: name, services: options.service ?? [] },
        ),
      ),
    ),
  )

const ca = verb(program, 'ca', 'the mesh’s certificate authority')
verb(ca, 'rotate', 'replace the root, without a request lost')
  .option('--status', 'only tell how it stands, and which host lags')
  .option('--abort', 'give it up')
  .option('--no-wait', 'do not follow it to its end')
  .action((options: { readonly status?: true; readonly abort?: true; readonly wait: boolean }) => {
    if (options.status === true && options.abort === true) {
      program.error('--status and --abort are two things')
    }
    const parts: CaParts = { connect: openController, printer: printer(), clock: waitingClock }
    if (options.status === true) return done(caStatus(parts))
    if (options.abort === true) return done(caAbort(parts))
    return done(caRotate(parts, { follow: options.wait }))
  })

verb(store, 'certificate <node> <addresses...>', 'keys and certificates for one node of an etcd')
  .requiredOption('--out <directory>', 'where the files go')
  .action((node: string, addresses: string[], { out }: { readonly out: string }) =>
    done(
      withController((controller) =>
        storeCertificate({ controller, printer: printer() }, { node, addresses, directory: out }),
      ),
    ),
  )
verb(store, 'init', 'hold everybody to their own keys in an etcd; may be repeated')
  .requiredOption('--to <urls>', 'https://host:port, with commas between', urls)
  .action(({ to }: { readonly to: readonly string[] }) =>
    done(
      withController((controller) =>
        storeInit({ controller, printer: printer() }, { endpoints: to }),
      ),
    ),
  )

verb(store, 'migrate', 'move the embedded store into an etcd')
  .option('--to <urls>', 'https://host:port, with commas between', urls)
  .option('--replace', 'delete what an earlier try has left there', false)
  .option('--undo', 'take the embedded store into use again', false)
  .action((options: MigrateOptions) =>
    done(
      withController((controller) => {
        const parts = { controller, printer: printer() }
        if (options.undo) return storeUndoMigration(parts)
        if (options.to !== undefined) {
          return storeMigrate(parts, { endpoints: options.to, replace: options.replace })
        }
        parts.printer.note('say where to with --to, or --undo')
        return Promise.resolve(exitCodes.usage)
      }),
    ),
  )

const controllers = verb(program, 'controller', 'the controllers of the mesh')
verb(controllers, 'list', 'which there are, and which of them leads').action(() =>
  done(withController((controller) => controllerList({ controller, printer: printer() }))),
)
verb(
  controllers,
  'admit <name> <request>',
  'sign the issuing certificate of another controller',
).action((name: string, file: string) =>
  done(
    withController((controller) =>
      controllerAdmit({ controller, printer: printer() }, { name, file }),
    ),
  ),
)

const cert = verb(program, 'cert', 'certificates of the mesh')
verb(cert, 'list', 'what was issued, to which host, and when it ends')
  .option('--host <name>', 'of one host', '')
  .option('--ended', 'also those that have ended', false)
  .option('--limit <count>', 'how many at most', count, 0)
  .action((options: { readonly host: string; readonly ended: boolean; readonly limit: number }) =>
    done(
      withController((controller) =>
        certList({ controller, printer: printer(), now: () => systemClock.now() }, options),
      ),
    ),
  )
/** What a verb that sets this host up works with. */
function setup() {
  const isRoot = process.getuid?.() === 0
  return { isRoot, parts: { ...local(), units: systemdUnits, clock: systemClock } }
}

verb(program, 'init', 'make this host the first of a mesh: controller, agent, join line')
  .option('--advertise <address>', 'where other hosts reach this one; default: its first address')
  .option('--host <name>', 'name of this host in the mesh; default: its host name')
  .option('--trust-domain <name>', 'name of the mesh in every identity', 'mesh.internal')
  .action((options: { advertise?: string; host?: string; trustDomain: string }) => {
    const { isRoot, parts } = setup()
    const controller = async (): Promise<ControllerClient> =>
      await openOperatorClient({ clock: systemClock }, { file: common().credential })
    const { advertise = null, host: name = null, trustDomain } = options
    return done(init({ ...parts, controller }, { isRoot, advertise, host: name, trustDomain }))
  })

verb(program, 'join <controller>', 'bring this host into a mesh: <controller> is host or host:port')
  .requiredOption('--token-file <path>', 'file with the join token; - for standard input')
  .option('--host <name>', 'name of this host in the mesh; default: its host name')
  .option('--address <ip>', 'where other hosts reach this one; default: its first address')
  .action((controller: string, options: { tokenFile: string; host?: string; address?: string }) => {
    const { isRoot, parts } = setup()
    const { tokenFile, host: name = null, address = null } = options
    return done(join(parts, { isRoot, controller, tokenFile, host: name, address }))
  })

verb(program, 'schema', 'JSON Schema of a manifest, for editors').action(() =>
  done(schema({ printer: printer() })),
)

try {
  await program.parseAsync(process.argv)
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage
  } else if (error instanceof MeshError) {
    const { message, hint = '' } = error
    streams.err(`meshctl: ${clean(message)}\n`)
    if (hint !== '') streams.err(`         ${clean(hint)}\n`)
    process.exitCode = exitCodes.unreachable
  } else throw error
}
