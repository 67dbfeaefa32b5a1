/**
 * Owns a fleet for tests: machines with a service each that know nothing of a mesh, and Ansible with
 * the collection of this project to reach them. What becomes of them is the test's own matter.
 */

import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { bootMachines, type Machine, type MachineTest } from '#test/support/machine-room.ts'
import { root } from '#test/support/sources.ts'

/** What a run of a playbook came to. */
export interface Played {
  readonly code: number
  readonly output: string
  /** What changed, by host. */
  readonly changed: Readonly<Record<string, number>>
  readonly seconds: number
}

/** Which machines, and what they are. */
export interface FleetSettings {
  readonly machines: readonly string[]
  /** The first machines form an etcd, so many; 0 for the embedded store. */
  readonly storeNodes: number
  /** Lifetime of certificates. */
  readonly leafTtlSeconds: number
  /** Directory of the fleet's own files; exists, empty. */
  readonly directory: string
  /** Where packages are. */
  readonly packages: string
}

/** Where programs of a machine reach the service, and where it listens. */
export const ports = { upstream: 9001, service: 8080 } as const
/** The runtime of the checkout, as a machine sees it. */
export const machineNode = `/checkout/node_modules/node-linux-${process.arch}/bin/node`
/** A machine's files of these places are not the mesh's: logs, caches, books of apt and dpkg. */
const unlooked = ['proc', 'sys', 'run', 'tmp', 'checkout', 'root', 'var/log', 'var/cache']
const books = ['var/lib/dpkg', 'var/lib/apt', 'var/lib/systemd']

/** See the header. */
export class Fleet {
  readonly machines: readonly Machine[]
  readonly #settings: FleetSettings
  readonly #environment: NodeJS.ProcessEnv
  #playing: ChildProcess | null = null

  private constructor(settings: FleetSettings, machines: readonly Machine[]) {
    this.#settings = settings
    this.machines = machines
    this.#environment = layCollection(settings.directory)
  }

  /** Boots the machines, each with its service. */
  static async boot(t: MachineTest, settings: FleetSettings): Promise<Fleet> {
    const machines = await bootMachines(t, settings.machines)
    for (const machine of machines) {
      machine.shell(`useradd --system --home-dir /nonexistent orders
        cat > /etc/systemd/system/orders.service <<'EOF'
[Service]
User=orders
ExecStart=${machineNode} /checkout/test/fleet/service-program.ts ${ports.service} ${machine.name}
EOF
        systemctl daemon-reload; systemctl start orders`)
    }
    const fleet = new Fleet(settings, machines)
    t.teardown(() => fleet.#stop())
    return fleet
  }

  /** Runs a playbook of the collection. */
  async play(
    name: string,
    variables: Readonly<Record<string, unknown>>,
    ...options: readonly string[]
  ): Promise<Played> {
    const inventory = join(this.#settings.directory, 'inventory.json')
    writeFileSync(inventory, JSON.stringify(this.#inventory()))
    const words = ['-i', inventory, `hostmesh.mesh.${name}`, ...options]
    const child = spawn('ansible-playbook', [...words, '-e', JSON.stringify(variables)], {
      cwd: this.#settings.directory,
      env: this.#environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#playing = child
    let output = ''
    // When each task began is said beside it: whoever reads the log sees what takes so long.
    const began = performance.now()
    const since = (): string => `${((performance.now() - began) / 1000).toFixed(0)} s`
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text.replace(
          /^(?:TASK|PLAY|RUNNING HANDLER) \[/gm,
          (begin) => `${since()} ${begin}`,
        )
      })
    }
    const code = await new Promise<number>((resolve) => {
      child.once('close', (status) => resolve(status ?? 1))
    })
    this.#playing = null
    const recap = output.matchAll(/^(\S+)\s+: ok=\d+\s+changed=(\d+)/gm)
    const changed = Object.fromEntries([...recap].map(([, host, count]) => [host, Number(count)]))
    return { code, output, changed, seconds: (performance.now() - began) / 1000 }
  }

  /** Every file, user, unit, rule and route of a machine, by lines. */
  traces(machine: Machine): string {
    const pruned = [...unlooked, ...books].map((place) => `-path /${place}`).join(' -o ')
    return machine.shell(`find / -xdev \\( ${pruned} \\) -prune -o -printf '%p %y %u %g %m\\n' | sort
      find /etc -type f -not -name '*-' -exec sha256sum {} + | sort
      ls -d /run/mesh /var/cache/mesh 2>&1
      cat /etc/passwd /etc/group
      systemctl list-unit-files --no-legend --no-pager
      systemctl list-units --no-legend --no-pager --plain 'mesh-*' 'etcd*'
      nft list ruleset; ip rule; ip route show table all; ip -6 route show table all`)
  }

  /** Breaks off what is played: it writes into the directory that is about to go. */
  async #stop(): Promise<void> {
    const child = this.#playing
    if (child === null) return
    const ended = new Promise((resolve) => child.once('close', resolve))
    child.kill('SIGTERM')
    await ended
  }

  #inventory(): object {
    const { packages, storeNodes, leafTtlSeconds } = this.#settings
    const names = this.machines.map(({ name }) => [name, {}] as const)
    const group = (count: number): object => ({ hosts: Object.fromEntries(names.slice(0, count)) })
    const services = {
      orders: { port: ports.service, run: { user: 'orders' } },
      callers: { upstreams: { orders: ports.upstream } },
    }
    return {
      all: {
        vars: {
          ansible_connection: 'machine',
          ansible_user: 'root',
          ansible_python_interpreter: '/usr/bin/python3',
          mesh_packages: packages,
          mesh_services: services,
          mesh_agent_settings: { accessLog: 'errors' },
          mesh_controller_settings: { leafTtlSeconds },
        },
        hosts: Object.fromEntries(
          this.machines.map(({ name, address, init }) => [
            name,
            { machine_init: init, mesh_address: address },
          ]),
        ),
        children: {
          mesh_controllers: group(1),
          mesh_store: group(storeNodes),
          mesh_agents: group(names.length),
        },
      },
    }
  }
}

/** Puts the collection where Ansible looks for it, and answers with what environment it does. */
export function layCollection(directory: string): NodeJS.ProcessEnv {
  const collections = join(directory, 'collections')
  const namespace = join(collections, 'ansible_collections/hostmesh')
  mkdirSync(namespace, { recursive: true })
  symlinkSync(join(root, 'ansible'), join(namespace, 'mesh'))
  return {
    PATH: process.env['PATH'],
    HOME: directory,
    LC_ALL: 'C.UTF-8',
    NO_COLOR: '1',
    ANSIBLE_NOCOLOR: '1',
    ANSIBLE_HOME: join(directory, 'ansible'),
    ANSIBLE_COLLECTIONS_PATH: collections,
    ANSIBLE_CONNECTION_PLUGINS: join(root, 'test/fleet/connection'),
    ANSIBLE_PIPELINING: '1',
    PYTHONDONTWRITEBYTECODE: '1',
  }
}

/** The package that `npm run package` has made into a directory. */
export function packageIn(directory: string): { readonly path: string; readonly version: string } {
  const name = readdirSync(directory).find((one) => /^hostmesh_.*\.deb$/.test(one)) ?? ''
  return { path: join(directory, name), version: name.split('_')[1] ?? '' }
}

/**
 * The same package as another version, beside it; `breaks` stands at the start of the agent's program.
 * The protocol and all else stay what they are.
 */
export function anotherVersion(deb: string, version: string, breaks = ''): void {
  const former = basename(deb).split('_')[1] ?? ''
  const tree = `${deb}.${version}`
  const target = deb.replace(`_${former}_`, `_${version}_`)
  execFileSync('sh', [
    '-ec',
    `dpkg-deb --raw-extract '${deb}' '${tree}'
     sed -i 's/^Version: .*/Version: ${version}/' '${tree}/DEBIAN/control'
     cd '${tree}/usr/lib/hostmesh'
     sed -i '0,/"version": "[^"]*"/s//"version": "${version}"/' package.json
     { printf '%s\\n' '${breaks}'; cat agent/main.ts; } > main.new
     mv main.new agent/main.ts
     dpkg-deb --root-owner-group -Znone --build '${tree}' '${target}' > /dev/null
     rm -rf '${tree}'`,
  ])
}
