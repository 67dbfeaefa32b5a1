/**
 * Owns whole machines for tests: a Debian tree booted with systemd-nspawn, each in a network namespace
 * of its own on one bridge, its root an overlay that is gone with it. Root only.
 */

import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { hash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bound } from './bound.ts'
import { until } from './until.ts'

/** The part of a test that machines use. */
export interface MachineTest {
  teardown(run: () => Promise<void>): unknown
  comment(line: string): unknown
}

/** What a command on a machine came to. */
export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** What a machine has beside a minimal Debian: what the package depends on, and what services need. */
const packages = [
  'ca-certificates',
  'curl',
  'dbus',
  'etcd-client',
  'etcd-server',
  'iproute2',
  'libatomic1',
  'libstdc++6',
  'libsystemd0',
  'nftables',
  'python3',
  'systemd',
  'systemd-resolved',
  'systemd-sysv',
]
const release = 'bookworm'
/** None of these begins by itself: a machine's network is made already, and its names are a test's. */
const asleep = ['etcd', 'nftables', 'systemd-networkd', 'systemd-resolved']
const presets = asleep.map((unit) => `disable ${unit}*\n`).join('')
/** Another list makes another tree. */
const baseTree = join(
  tmpdir(),
  `hostmesh-machine-${hash('sha256', [...packages, presets].join()).slice(0, 8)}`,
)
const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const patience = { withinMs: 120_000 }
/** See systemd/debian/hostmesh.sysctl. */
const migration = '/proc/sys/net/ipv4/tcp_migrate_req'
const bridgeNet = '10.205.0'

/** A booted machine. */
export class Machine {
  readonly name: string
  readonly address: string
  readonly #child: ChildProcess
  #init = 0

  constructor(facts: { name: string; address: string; child: ChildProcess }) {
    this.name = facts.name
    this.address = facts.address
    this.#child = facts.child
  }

  /** Its first process, as this machine numbers it. */
  get init(): number {
    return this.#init
  }

  /** Runs a command there; throws with what it said unless it succeeds. */
  run(...command: readonly string[]): string {
    const { code, stdout, stderr } = this.try(...command)
    if (code === 0) return stdout
    throw new Error(`${command.join(' ')} on ${this.name} ended with ${code}:\n${stdout}${stderr}`)
  }

  /** Runs a command there. */
  try(...command: readonly string[]): Ran {
    const { status, stdout, stderr } = spawnSync('nsenter', this.#inside(command), {
      encoding: 'utf8',
      timeout: patience.withinMs,
    })
    return { code: status ?? 1, stdout, stderr }
  }

  /** Starts a program there; it ends with the machine, unless before. */
  start(...command: readonly string[]): ChildProcess {
    return spawn('nsenter', this.#inside(command), { stdio: ['ignore', 'pipe', 'ignore'] })
  }

  /** Runs a line of shell there; throws unless it succeeds. */
  shell(line: string): string {
    return this.run('sh', '-c', line)
  }

  /** With an empty environment: the test runner's own variables mean nothing there. */
  #inside(command: readonly string[]): readonly string[] {
    return ['-t', String(this.#init), '-a', 'env', '-i', path, 'LC_ALL=C', ...command]
  }

  /** Waits until systemd has started everything. */
  async booted(): Promise<void> {
    await until(
      `${this.name} has booted`,
      () => {
        // Before its first process there are others for a moment.
        this.#init = initOf(this.#child)
        if (this.#init === 0) return false
        return /^(?:running|degraded)$/m.test(this.try('systemctl', 'is-system-running').stdout)
      },
      patience,
    )
  }

  /** Ends it; one whose systemd does not come to the end of its own stop is killed. */
  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve))
    if (this.#child.exitCode !== null || !this.#child.kill('SIGTERM')) return
    const kill = setTimeout(() => {
      // The end of its first process is the end of all of them, and of the one that waits for it.
      if (this.#init !== 0) process.kill(this.#init, 'SIGKILL')
      else this.#child.kill('SIGKILL')
    }, stopWithinMs)
    await ended
    clearTimeout(kill)
  }
}

/** A stop takes a second or two. */
const stopWithinMs = 30_000

/** Settings of machines. */
export interface MachineSettings {
  /** Whether they may lead connections elsewhere, as hosts do. @default false */
  readonly mayCapture?: boolean
}

/** Boots machines named so; they are ended, and their network removed, with the test. */
export async function bootMachines(
  t: MachineTest,
  names: readonly string[],
  settings: MachineSettings = {},
): Promise<readonly Machine[]> {
  ensureBaseTree((line) => t.comment(line))
  const hub = `hostmesh-${process.pid}-hub`
  const spaces = names.map((name) => `hostmesh-${process.pid}-${name}`)
  const machines: Machine[] = []
  t.teardown(async () => {
    await Promise.all(machines.map((machine) => machine.stop()))
    for (const space of [...spaces, hub]) spawnSync('ip', ['netns', 'delete', space])
  })
  ip('netns', 'add', hub)
  ip('-n', hub, 'link', 'add', 'br0', 'type', 'bridge')
  ip('-n', hub, 'link', 'set', 'br0', 'up')
  for (const [i, name] of names.entries()) {
    const space = spaces[i] ?? ''
    const address = `${bridgeNet}.${i + 11}`
    ip('netns', 'add', space)
    ip('-n', space, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', `p${i}`, 'netns', hub)
    ip('-n', hub, 'link', 'set', `p${i}`, 'master', 'br0', 'up')
    ip('-n', space, 'address', 'add', `${address}/24`, 'dev', 'eth0')
    for (const link of ['lo', 'eth0']) ip('-n', space, 'link', 'set', link, 'up')
    // What the package's sysctl.d sets on a host: a machine of nspawn may only read /proc/sys.
    ip('netns', 'exec', space, 'sh', '-c', `echo 1 > ${migration}`)
    machines.push(new Machine({ name, address, child: boot(name, space, settings) }))
  }
  await Promise.all(machines.map((machine) => machine.booted()))
  return machines
}

function boot(name: string, space: string, { mayCapture }: MachineSettings): ChildProcess {
  const words = [
    '--register=no',
    '--keep-unit',
    '--boot',
    '--quiet',
    `--directory=${baseTree}`,
    '--volatile=overlay',
    `--machine=${name}`,
    `--hostname=${name}`,
    `--network-namespace-path=/run/netns/${space}`,
    // What resolves names is a machine's own matter.
    ...(mayCapture === true ? ['--capability=CAP_NET_ADMIN', '--resolv-conf=off'] : []),
    '--console=read-only',
    '--link-journal=no',
    `--bind-ro=${join(import.meta.dirname, '../..')}:/checkout`,
  ]
  return spawn(...bound('systemd-nspawn', words, 'TERM'), { stdio: 'ignore' })
}

/** The machine's first process, as this machine numbers it; 0 while there is none. */
function initOf({ pid = 0 }: ChildProcess): number {
  const children = `/proc/${pid}/task/${pid}/children`
  return existsSync(children) ? Number(readFileSync(children, 'utf8').split(' ')[0]) : 0
}

/** Made once on a machine; takes a minute or two. */
function ensureBaseTree(say: (line: string) => void): void {
  if (existsSync(baseTree)) return
  say('making a Debian tree (once, a minute or two)')
  const making = `${baseTree}.${process.pid}`
  try {
    mkdirSync(making, { mode: 0o755 })
    const words = ['--variant=minbase', `--include=${packages.join(',')}`, release, making]
    execFileSync('debootstrap', words, { stdio: ['ignore', 'ignore', 'pipe'] })
    // Each machine has its own.
    for (const own of ['machine-id', 'hostname']) rmSync(join(making, 'etc', own), { force: true })
    // Whom a machine asks for names is what this one asks, unless a test says otherwise.
    rmSync(join(making, 'etc/resolv.conf'), { force: true })
    copyFileSync('/etc/resolv.conf', join(making, 'etc/resolv.conf'))
    // Else the first boot enables them.
    mkdirSync(join(making, 'etc/systemd/system-preset'), { recursive: true })
    writeFileSync(join(making, 'etc/systemd/system-preset/50-test.preset'), presets)
    // Presets are for what was not enabled when it was installed.
    const units = asleep.map((unit) => `${unit}.service`)
    execFileSync('systemctl', [`--root=${making}`, '--quiet', 'disable', ...units])
    renameSync(making, baseTree)
  } catch (error) {
    // Another test may have made the same meanwhile.
    if (!existsSync(baseTree)) throw error
  } finally {
    rmSync(making, { recursive: true, force: true })
  }
}

function ip(...words: readonly string[]): void {
  execFileSync('ip', words, { stdio: ['ignore', 'ignore', 'pipe'] })
}
