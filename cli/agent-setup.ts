/**
 * Owns putting an agent on this host to work, for `meshctl init` and `join`: its token and config,
 * its units, and the wait until it serves. The token is gone once it has been used.
 */

import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { setTimeout } from 'node:timers/promises'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { StatusReport } from '#shared/model/admin.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import type { ServiceUnits } from './client/service-units.ts'
import type { MachineFacts } from './machine-fitness.ts'
import { writeMissing } from './preflight.ts'

/** Collaborators. */
export interface AgentSetupParts {
  readonly agent: AdminSocket
  readonly units: ServiceUnits
  readonly machine: () => MachineFacts
  readonly clock: Clock
  readonly note: (line: string) => void
}

/** What an agent is told. */
export interface AgentSetupSettings {
  /** `/etc/mesh`. */
  readonly directory: string
  readonly token: string
  /** What `agentConfig` made. */
  readonly config: string
  /** @default 60000 */
  readonly patienceMs?: number
}

/** Workers of whatever generation. */
const proxyUnits = 'mesh-proxy@*.service'

const agentUnit = 'mesh-agent.service'

/** Ports an agent takes. */
export const agentPorts = [
  { unit: proxyUnits, port: 15_008 },
  { unit: proxyUnits, port: 15_002 },
  { unit: agentUnit, port: 15_020 },
] as const

/** The text of an agent's config. Null leaves a key to the agent's own judgement. */
export function agentConfig(
  directory: string,
  facts: {
    /** `host:port`. */
    readonly controller: string
    readonly host: string | null
    readonly address: string | null
  },
): string {
  const { controller, host, address } = facts
  const config = {
    controller,
    ...(host === null ? {} : { host }),
    ...(address === null ? {} : { address }),
    joinTokenFile: tokenFileIn(directory),
  }
  return `${JSON.stringify(config, null, 2)}\n`
}

/** The units of an agent on this machine. */
export function agentUnits(): readonly string[] {
  const workers = Math.min(4, Math.ceil(availableParallelism() / 4))
  const proxies = Array.from({ length: workers }, (_, index) => `mesh-proxy@1-${index}.service`)
  return ['mesh-guard.service', agentUnit, 'mesh-proxy.target', ...proxies]
}

/** Starts the agent and waits until it serves. @throws MeshError `unit-failed`, `not-ready` */
export async function setUpAgent(
  parts: AgentSetupParts,
  settings: AgentSetupSettings,
): Promise<StatusReport> {
  const { directory, token, config } = settings
  const tokenFile = tokenFileIn(directory)
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  await writeFileAtomic(tokenFile, `${token}\n`, { mode: 0o600 })
  const owned = spawnSync('chown', ['mesh-agent', tokenFile], { encoding: 'utf8' })
  if (owned.status !== 0) {
    throw new MeshError(`cannot give ${tokenFile} to user mesh-agent: ${owned.stderr.trim()}`, {
      code: 'no-user',
      hint: 'install the package again: it makes that user',
    })
  }
  await writeMissing({ [`${directory}/agent.json`]: config })
  parts.note('starting mesh-agent and its workers')
  try {
    parts.units.enable(agentUnits())
  } catch (error) {
    throw endedIn(parts.units) ?? error
  }
  const status = await ready(parts, settings.patienceMs ?? 60_000)
  rmSync(tokenFile, { force: true })
  return status
}

/** Why the agent does not run any more, the controller's refusal for one; null where it may yet get ready. */
function endedIn(units: ServiceUnits): MeshError | null {
  if (!units.isLost(agentUnit)) return null
  return new MeshError(`the agent has ended: ${units.lastWords(agentUnit)}`, {
    code: 'unit-failed',
    hint: 'mend that and call this again; journalctl -n 30 -u mesh-agent tells more',
  })
}

function tokenFileIn(directory: string): string {
  return `${directory}/join-token`
}

async function ready(
  { agent, clock, units }: AgentSetupParts,
  patienceMs: number,
): Promise<StatusReport> {
  const end = clock.elapsed() + patienceMs
  let waitsFor = 'the agent to answer'
  while (clock.elapsed() < end) {
    const status = await agent.ask('status').catch(() => null)
    if (status?.ready === true) return status
    const ended = status === null ? endedIn(units) : null
    if (ended !== null) throw ended
    waitsFor = status?.waitsFor ?? waitsFor
    await setTimeout(200)
  }
  throw new MeshError(`the agent does not get ready; it waits for ${waitsFor}`, {
    code: 'not-ready',
    hint: 'journalctl -n 30 -u mesh-agent tells why; it goes on trying',
  })
}
