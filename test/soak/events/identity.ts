/**
 * The events of identity: certificates that rotate without a pause, a root that is replaced, a
 * controller that is away until certificates end, a host that is banned.
 */

import { readFileSync } from 'node:fs'
import { connect } from 'node:tls'
import { ports } from '#cli/demo/demo-host.ts'
import type { SoakSettings } from '#test/soak/soak.ts'
import { SoakMesh } from '#test/soak/soak.ts'

/** How long silence must last to mean that somebody is cut off. */
const quietMs = 3000

/** Runs all of them. */
export async function identity(settings: SoakSettings): Promise<void> {
  const full = settings.size === 'full'
  const { say } = settings
  // The shortest life there is: renewed after ten seconds, more or less.
  let mesh = await SoakMesh.raise(settings, { leafTtlSeconds: 20 })
  try {
    say('certificates rotate')
    await rotateCertificates(mesh, full ? 180_000 : 12_000)
    if (!full) {
      say('the root is replaced')
      await rotateRoot(mesh)
      say('a host is banned')
      await banHost(mesh, 15_000)
    }
  } finally {
    await mesh.stop()
  }
  if (!full) return
  mesh = await SoakMesh.raise(settings, { leafTtlSeconds: 30 })
  try {
    say('the root is replaced')
    await rotateRoot(mesh)
    say('the controller is away, again and again')
    await loseController(mesh, 30_000)
    say('a host is banned')
    await banHost(mesh, 5000)
    say('the controller is away for good')
    await endCertificates(mesh)
  } finally {
    await mesh.stop()
  }
}

/** Certificates by host and identity. */
async function serials(mesh: SoakMesh): Promise<ReadonlyMap<string, string>> {
  const lists = await Promise.all(
    mesh.world.hosts.map(async (host) => ({
      name: host.name,
      list: await host.admin.ask('certificates'),
    })),
  )
  return new Map(
    lists.flatMap(({ name, list }) => list.map((one) => [`${name} ${one.identity}`, one.serial])),
  )
}

async function rotateCertificates(mesh: SoakMesh, forMs: number): Promise<void> {
  const end = mesh.load.stretch()
  const untilMs = Date.now() + forMs
  let before = await serials(mesh)
  let renewed = 0
  while (Date.now() < untilMs) {
    await new Promise((resolve) => setTimeout(resolve, 1000))
    const now = await serials(mesh)
    for (const [identity, serial] of now) if (before.get(identity) !== serial) renewed++
    before = now
  }
  mesh.noneFailed('identity-certificates', `${renewed} certificates renewed`, end())
}

/** The root that a mesh begins or ends with, PEM. */
function rootOf(mesh: SoakMesh): string {
  const file = JSON.parse(readFileSync(mesh.world.operatorFile, 'utf8')) as OperatorFile
  return file.bundlePem
}

interface HostList {
  readonly hosts: readonly { readonly host: string; readonly ban: { readonly at: string } | null }[]
}

interface OperatorFile {
  readonly bundlePem: string
  readonly chainPem: string
  readonly keyPem: string
}

async function rotateRoot(mesh: SoakMesh): Promise<void> {
  const before = JSON.parse(readFileSync(mesh.world.operatorFile, 'utf8')) as OperatorFile
  const stolen = readCredential(mesh)
  const end = mesh.load.stretch()
  await mesh.meshctl('ca', 'rotate')
  await mesh.until('every host acts on the new root alone', async () => {
    return /, in force on (\d+) of \1 /.test(await mesh.meshctl('ca', 'rotate', '--status'))
  })
  await mesh.more()
  mesh.noneFailed('identity-root', 'a root replaced', end())
  const trusted = before.bundlePem === rootOf(mesh) ? 1 : 0
  mesh.atMost('identity-root', 'old roots still trusted by the controller', trusted, 0)
  const taken = await Promise.all(
    mesh.world.hosts.map((host) => knock(host.place.address, stolen, host.name)),
  )
  const count = taken.filter(Boolean).length
  mesh.atMost('identity-root', 'hosts that take a certificate of the old root', count, 0)
}

/** A credential a host holds now, as whoever copied its disk would have it. */
function readCredential(mesh: SoakMesh): { readonly cert: string; readonly key: string } {
  const path = mesh.host('beta').path('state/identity/host.json')
  const { chainPem: cert, keyPem: key } = JSON.parse(readFileSync(path, 'utf8')) as OperatorFile
  return { cert, key }
}

/** Whether a host's tunnel port takes a certificate: who is taken hears SETTINGS. */
function knock(
  host: string,
  credential: { readonly cert: string; readonly key: string },
  name: string,
): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({
      host,
      port: ports.tunnel,
      ...credential,
      servername: `alone-${name}.service.mesh.internal`,
      ALPNProtocols: ['h2'],
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    })
    socket.setTimeout(5000, () => socket.destroy())
    socket.on('error', () => {})
    socket.once('data', () => {
      resolve(true)
      socket.destroy()
    })
    socket.once('close', () => resolve(false))
  })
}

/**
 * Away for longer than a lifetime altogether, but never so long that a certificate ends: one is due at
 * six tenths of its life, and of the other four a controller may take two to start.
 */
async function loseController(mesh: SoakMesh, ttlMs: number): Promise<void> {
  const end = mesh.load.stretch()
  const [times, part] = [6, 0.2]
  for (let time = 0; time < times; time++) {
    await mesh.world.endController('SIGKILL')
    await new Promise((resolve) => setTimeout(resolve, ttlMs * part))
    await mesh.startController()
    await renewedAll(mesh, ttlMs)
  }
  const halves = (times * part * 2).toFixed(1)
  mesh.noneFailed('identity-controller', `controller away for ${halves} half lives`, end())
}

/** Every certificate has a third of its life left. */
async function renewedAll(mesh: SoakMesh, ttlMs: number): Promise<void> {
  await mesh.until('every certificate is fresh', async () => {
    const lists = await Promise.all(mesh.world.hosts.map((host) => host.admin.ask('certificates')))
    const now = Date.now()
    return lists.flat().every(({ notAfterMs, code }) => {
      return code === '' && notAfterMs - now > ttlMs / 3
    })
  })
}

/** The controller never comes back: nothing fails before the first certificate ends, all after. */
async function endCertificates(mesh: SoakMesh): Promise<void> {
  const isLeft = (host: string): boolean => host !== 'delta' && host !== 'gamma'
  const hosts = mesh.world.hosts.filter(({ name }) => isLeft(name))
  await mesh.world.endController('SIGKILL')
  const end = mesh.load.stretch(isLeft)
  const lists = await Promise.all(
    mesh.world.hosts
      .filter(({ name }) => name !== 'delta')
      .map((host) => host.admin.ask('certificates')),
  )
  const ends = lists.flat().map(({ notAfterMs }) => notAfterMs)
  await sleepUntil(Math.max(...ends) + 3000)
  mesh.noneFailed('identity-end', 'before the first certificate ended', end(Math.min(...ends)))
  const over = mesh.load.stretch(isLeft)
  await sleepUntil(Date.now() + 3000)
  const { failed, failures } = over()
  const unnamed = failures.filter((what) => !what.includes('no-credential'))
  for (const what of unnamed) mesh.say(`  identity-end: ${what}`)
  mesh.atMost('identity-end', `unnamed of ${failed} refusals after`, unnamed.length, 0)
  const crossed = hosts.filter(({ name }) => {
    const next = mesh.world.hosts[mesh.world.hosts.findIndex((one) => one.name === name) + 1]
    return (
      mesh.load.lastAnswerMs(next?.name ?? '', (host) => host === name) > Math.max(...ends) + 3000
    )
  })
  mesh.atMost('identity-end', 'hosts whose calls still cross', crossed.length, 0)
}

function sleepUntil(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, Math.max(0, ms - Date.now()))
  })
}

async function banHost(mesh: SoakMesh, goalMs: number): Promise<void> {
  const banned = 'delta'
  const others = (host: string): boolean => host !== banned
  const hosts = mesh.world.hosts.filter(({ name }) => others(name))
  const stolen = readFileSync(mesh.host(banned).path('state/identity/host.json'), 'utf8')
  await mesh.meshctl('host', 'ban', banned, '--reason', 'a soak')
  const list = JSON.parse(await mesh.meshctl('host', 'list', '--json')) as HostList
  const sinceMs = Date.parse(list.hosts.find(({ host }) => host === banned)?.ban?.at ?? '')
  const answeredByIt = (): number => mesh.load.lastAnswerMs(banned, others)
  const answersIt = (): number =>
    Math.max(...hosts.map(({ name }) => mesh.load.lastAnswerMs(name, (host) => host === banned)))
  // Whoever is cut off hears nothing for a while; beyond the goal it is too late anyway.
  const latest = (): number => Math.max(answeredByIt(), answersIt())
  await mesh.until('it is cut off', () => {
    return Date.now() - latest() > quietMs || Date.now() - sinceMs > 2 * goalMs
  })
  mesh.atMost(
    'identity-ban',
    'ms until nobody is answered by it',
    after(answeredByIt(), sinceMs),
    goalMs,
  )
  mesh.atMost('identity-ban', 'ms until nobody answers it', after(answersIt(), sinceMs), goalMs)
  const { chainPem: cert, keyPem: key } = JSON.parse(stolen) as OperatorFile
  const taken = await Promise.all(
    hosts.map((host) => knock(host.place.address, { cert, key }, host.name)),
  )
  mesh.atMost('identity-ban', 'hosts that take its certificate', taken.filter(Boolean).length, 0)
  // Gamma calls a service that only the banned host has.
  const rest = (host: string): boolean => others(host) && host !== 'gamma'
  const end = mesh.load.stretch(rest)
  await mesh.more(rest)
  mesh.noneFailed('identity-ban', 'of callers elsewhere, once it is gone', end())
}

function after(atMs: number, sinceMs: number): number {
  return Math.max(0, atMs - sinceMs)
}
