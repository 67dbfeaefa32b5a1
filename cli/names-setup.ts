/**
 * Owns that programs of a host find names as `orders.mesh`, as far as `meshctl init` and `join` see to
 * it: a drop-in for systemd-resolved, which an agent without root's rights may not write. Other
 * resolvers are their administrator's; then it says what is left to do.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { CaptureReport } from '#shared/model/admin-capture.ts'
import { resolvedDropIn, resolvedDropInPath, resolvedStub } from '#shared/model/resolved-drop-in.ts'
import { parseHostPort } from '#shared/rpc/host-port.ts'
import type { ServiceUnits } from './client/service-units.ts'

/** Collaborators. */
export interface NamesSetupParts {
  readonly units: Pick<ServiceUnits, 'restart'>
  readonly note: (line: string) => void
}

/** Settings. */
export interface NamesSetupSettings {
  /** The agent's config. */
  readonly configPath: string
  /** @default '/etc/resolv.conf' */
  readonly resolvConf?: string
  readonly dropIn?: string
}

/** Where the agent listens unless its config says otherwise. */
const usual = { host: '127.0.0.1', port: 15_053 }
const resolvedUnit = 'systemd-resolved.service'

/** How programs of a host find names. */
export type NamesState =
  /** Names lead to virtual IPs, and those nowhere while nothing is captured. */
  | { readonly kind: 'off' }
  /** Not by systemd-resolved: that is somebody else's to arrange. */
  | { readonly kind: 'elsewhere'; readonly resolvConf: string }
  | { readonly kind: 'told'; readonly dropIn: string }
  /** Told, and of other servers for all links too: it asks one of them all for every name. */
  | { readonly kind: 'mixed'; readonly file: string }
  /** systemd-resolved is asked, and does not know of the mesh's DNS. */
  | { readonly kind: 'untold'; readonly dropIn: string; readonly text: string }

/** Looks, and changes nothing. Throws what reading the config throws. */
export function namesState(
  capture: Pick<CaptureReport, 'kind'>,
  settings: NamesSetupSettings,
): NamesState {
  if (capture.kind === 'off') return { kind: 'off' }
  const { resolvConf = '/etc/resolv.conf', dropIn = resolvedDropInPath } = settings
  if (!asksResolved(resolvConf)) return { kind: 'elsewhere', resolvConf }
  const { host: address, port } = listensAt(settings.configPath)
  const text = resolvedDropIn({ address, port })
  const isTold = existsSync(dropIn) && readFileSync(dropIn, 'utf8') === text
  if (!isTold) return { kind: 'untold', dropIn, text }
  const file = otherServers(dropIn)
  return file === null ? { kind: 'told', dropIn } : { kind: 'mixed', file }
}

/** Never fails: calls work without, by the forward proxy and by `upstreams`. */
export async function setUpNames(
  { units, note }: NamesSetupParts,
  capture: Pick<CaptureReport, 'kind'>,
  settings: NamesSetupSettings,
): Promise<void> {
  try {
    const state = namesState(capture, settings)
    if (state.kind === 'elsewhere') note(elsewhere(state.resolvConf))
    if (state.kind !== 'untold') return
    const { dropIn, text } = state
    mkdirSync(dirname(dropIn), { recursive: true, mode: 0o755 })
    await writeFileAtomic(dropIn, text, { mode: 0o644 })
    units.restart(resolvedUnit)
    const file = otherServers(dropIn)
    note(
      file === null
        ? `programs find names as orders.mesh by systemd-resolved, which ${dropIn} tells`
        : mixed(file),
    )
  } catch (error) {
    note(`programs do not find names as orders.mesh yet: ${messageOf(error)}`)
  }
}

/** What to do where systemd-resolved has other servers for all links. */
export function mixed(file: string): string {
  return `programs may not find names as orders.mesh: ${file} gives systemd-resolved servers for all links (DNS=), and it asks one of those and the agent for every name; give them to the link instead (DNS= in its .network file, or "resolvectl dns eth0 …")`
}

/** The file beside ours that names servers for all links (resolved.conf(5)); null where none does. */
function otherServers(dropIn: string): string | null {
  const directory = dirname(dropIn)
  const main = `${dirname(directory)}/resolved.conf`
  const dropIns = readdirSync(directory).filter((name) => name.endsWith('.conf'))
  const files = [main, ...dropIns.map((name) => `${directory}/${name}`)]
  const names = (file: string): boolean =>
    file !== dropIn &&
    existsSync(file) &&
    /^[ \t]*DNS[ \t]*=[ \t]*\S/m.test(readFileSync(file, 'utf8'))
  return files.find(names) ?? null
}

/** What to do where systemd-resolved is not asked. */
export function elsewhere(resolvConf: string): string {
  return `programs do not find names as orders.mesh yet: ${resolvConf} does not lead to systemd-resolved; docs/interception.md, "Names", tells what else there is`
}

function asksResolved(resolvConf: string): boolean {
  const text = existsSync(resolvConf) ? readFileSync(resolvConf, 'utf8') : ''
  return /^nameserver[ \t]+(\S+)/m.exec(text)?.[1] === resolvedStub
}

function listensAt(configPath: string): { readonly host: string; readonly port: number } {
  const config = JSON.parse(readFileSync(configPath, 'utf8')) as {
    readonly listen?: { readonly dns?: string }
  }
  const parsed = parseHostPort(config.listen?.dns ?? '')
  return parsed.ok ? parsed.value : usual
}
