/**
 * Owns a mesh that knows many instances: services on hosts that are not there, written into its store
 * as their agents would write them. Nobody calls them; what they cost those who only know them is the
 * question. The writing is a program of its own, for it runs where the store is reached.
 */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { presenceOf, instanceOf, entryOf } from '#test/support/mesh-records.ts'
import { must, parseInstanceId } from '#shared/model/names.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import type { BenchMesh } from './mesh.ts'

/** Of each service, each on another host. */
const instancesOfService = 10
const hosts = 100
/** Those that a mesh of benches has itself: with more than `wholeMesh` in all, agents follow only what they use. */
const own = 2
/** What one transaction of etcd takes. */
const most = 100

/** Writes instances until there are so many in all, and waits until the mesh knows them. */
export async function tellOfInstances(mesh: BenchMesh, instances: number): Promise<void> {
  const { url, enter } = mesh.etcd
  const words = [process.execPath, import.meta.filename, url, String(instances)]
  const [command = '', ...args] = enter(words)
  await promisify(execFile)(command, args)
  await mesh.knows(Math.ceil(instances / instancesOfService))
}

async function write(url: string, instances: number): Promise<void> {
  const store = openEtcd({ clock: systemClock, random: systemRandom }, { endpoints: [url] })
  const entries = [...presences(), ...records(instances - own)]
  try {
    for (let at = 0; at < entries.length; at += most) {
      const success = entries
        .slice(at, at + most)
        .map(([key, value]) => ({ kind: 'put', key, value }) as const)
      await store.transact({ compare: [], success })
    }
  } finally {
    store.close()
  }
}

function* presences(): Generator<readonly [string, string]> {
  for (let n = 0; n < hosts; n++) yield entryOf(presenceOf(`far-${n}`, { address: `10.9.0.${n}` }))
}

function* records(count: number): Generator<readonly [string, string]> {
  for (let n = 0; n < count; n++) {
    const id = must(parseInstanceId(String(n % instancesOfService)))
    yield entryOf(
      instanceOf(`known-${Math.floor(n / instancesOfService)}`, `far-${n % hosts}`, { id }),
    )
  }
}

if (import.meta.main) await write(process.argv[2] ?? '', Number(process.argv[3]))
