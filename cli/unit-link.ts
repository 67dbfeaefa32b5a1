/**
 * Owns `meshctl unit link`, `unlink` and `list`: which units of systemd wait for what their service
 * requires, and have it leave the mesh before they stop. What happens then is `unit-turn.ts`'s.
 */

import { existsSync, globSync, mkdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { ServiceName } from '#shared/model/names.ts'
import {
  readUnitDropInName,
  rotationUnit,
  unitDirectory,
  unitDropIn,
  unitDropInName,
} from '#shared/model/unit-drop-in.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import type { ServiceUnits } from './client/service-units.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { clean, table } from './output/table.ts'
import { putBack } from './unit-turn.ts'

/** Collaborators. */
export interface UnitLinkParts {
  readonly agent: Pick<AdminSocket, 'ask' | 'tell'>
  readonly units: Pick<ServiceUnits, 'has' | 'isActive' | 'start' | 'stop' | 'reload'>
  readonly printer: Printer
}

/** Settings of all of them. */
export interface UnitLinkSettings {
  readonly isRoot: boolean
  /** @default '/etc/systemd/system' */
  readonly directory?: string
}

/** A unit that is linked. */
interface Link {
  readonly unit: string
  readonly service: string
  readonly path: string
}

/** Links a service's unit; what is so already is left alone. @throws MeshError `not-linked` */
export async function unitLink(
  parts: UnitLinkParts,
  settings: UnitLinkSettings & {
    readonly service: ServiceName
    /** Null: the one that the manifest names. */
    readonly unit: string | null
    /** The unit does not start where waiting was in vain. */
    readonly strict: boolean
  },
): Promise<number> {
  const { units, printer } = parts
  const { service, strict, directory = unitDirectory } = settings
  demandRoot(settings)
  const unit = settings.unit ?? (await namedUnit(parts, service))
  if (!/^(?!mesh-)[A-Za-z0-9_:.@\\-]+[.]service$/.test(unit) || !units.has(unit)) {
    const hint = 'systemctl list-unit-files --type=service; units of the mesh itself do not count'
    throw notLinked(`there is no unit ${JSON.stringify(unit)} of a service`, hint)
  }
  const path = join(directory, unitDropInName(unit, service))
  const text = unitDropIn(service, { strict })
  const former = linksIn(directory).filter((link) => link.service === service)
  const isSo = former.length === 1 && existsSync(path) && readFileSync(path, 'utf8') === text
  if (!isSo) {
    for (const link of former) remove(link)
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
    await writeFileAtomic(path, text, { mode: 0o644 })
    units.reload()
    // Else its next stop would be one of before.
    if (units.isActive(unit)) units.start([rotationUnit(service)])
  }
  printer.result({ service, unit, path, strict, changed: !isSo }, () =>
    isSo
      ? `${clean(unit)} is linked already`
      : `${clean(unit)} waits for what ${service} requires, and has it drained before it stops (${path})`,
  )
  return exitCodes.ok
}

/** Takes a link away; where there is none, that is well. @throws MeshError `not-linked` */
export async function unitUnlink(
  parts: UnitLinkParts,
  settings: UnitLinkSettings & { readonly service: ServiceName },
): Promise<number> {
  const { units, printer } = parts
  const { service, directory = unitDirectory } = settings
  demandRoot(settings)
  const links = linksIn(directory).filter((link) => link.service === service)
  for (const link of links) remove(link)
  if (links.length > 0) {
    units.reload()
    // Nothing ties it to the unit any more, so it drains nothing.
    units.stop([rotationUnit(service)])
    // Whoever starts it from now on does not put it back.
    await putBack(parts, service).catch((error: unknown) => printer.note(clean(messageOf(error))))
  }
  printer.result({ service, changed: links.length > 0 }, () =>
    links.length > 0
      ? `no unit is linked to ${service} any more`
      : `no unit is linked to ${service}`,
  )
  return exitCodes.ok
}

/** Tells which units are linked. */
export function unitList(
  { printer }: Pick<UnitLinkParts, 'printer'>,
  { directory = unitDirectory }: Pick<UnitLinkSettings, 'directory'> = {},
): number {
  const links = linksIn(directory).map((link) => ({ ...link, strict: isStrict(link) }))
  printer.result(links, () =>
    table(
      ['UNIT', 'SERVICE', 'STARTS WITHOUT', 'FILE'],
      links.map(({ unit, service, strict, path }) => [unit, service, strict ? 'no' : 'yes', path]),
      'no unit is linked: meshctl unit link SERVICE',
    ),
  )
  return exitCodes.ok
}

function demandRoot({ isRoot }: UnitLinkSettings): void {
  if (!isRoot) throw notLinked('this needs root', 'run it with sudo')
}

async function namedUnit({ agent }: UnitLinkParts, service: ServiceName): Promise<string> {
  const manifest = (await agent.ask('manifests')).find((one) => one.service === service)
  if (manifest === undefined) {
    throw notLinked(`${service} is no service of this host`, 'meshctl manifest status lists them')
  }
  if (manifest.unit !== '') return manifest.unit
  const hint = 'say --unit NAME.service, or "run": { "unit": "…" } in its manifest'
  throw notLinked(`the manifest of ${service} names no unit of systemd`, hint)
}

function linksIn(directory: string): readonly Link[] {
  return globSync('*.service.d/hostmesh-*.conf', { cwd: directory })
    .toSorted()
    .flatMap((name) => {
      const read = readUnitDropInName(name)
      return read === null ? [] : { ...read, path: join(directory, name) }
    })
}

function isStrict({ path }: Link): boolean {
  return /^Requires=/m.test(readFileSync(path, 'utf8'))
}

function remove({ path }: Link): void {
  rmSync(path, { force: true })
  try {
    rmdirSync(dirname(path))
  } catch {
    // Somebody else's drop-ins are in it.
  }
}

function notLinked(what: string, hint: string): MeshError {
  return new MeshError(`not linked: ${what}`, { code: 'not-linked', hint })
}
