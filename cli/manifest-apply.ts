/**
 * Owns `meshctl manifest apply`: checks a file, puts it whole into the manifest directory, and waits
 * for what the agent makes of it. It needs no right but to write there: receipts can be read by all.
 */

import { createHash } from 'node:crypto'
import { access, constants, readFile } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { isManifestName } from '#shared/model/manifest-name.ts'
import type { Receipt } from '#shared/model/receipt.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { clean } from './output/table.ts'

/** What it leans on. */
export interface ManifestApplyParts {
  readonly agent: AdminSocket
  readonly clock: Pick<Clock, 'elapsed'>
  readonly printer: Printer
}

/** Settings of one apply. */
export interface ManifestApplySettings {
  readonly file: string
  /** The user who asks: whose directory is taken where the other may not be written. */
  readonly user: string
  /** @default false */
  readonly isRoot?: boolean
  /** Where manifests are read. @default what the agent says, else /etc/mesh.d */
  readonly directory?: string
  /** How long to wait for the receipt; 0: not at all. */
  readonly waitMs: number
}

/** What became of an applied file. */
interface Applied {
  readonly path: string
  /** Null where nobody waited. */
  readonly receipt: Receipt | null
  readonly problems: readonly string[]
}

const usualDirectory = '/etc/mesh.d'
const lookEveryMs = 25

/** Succeeds when the file is in place or, with waiting, when all it asks for is so. */
export async function manifestApply(
  parts: ManifestApplyParts,
  settings: ManifestApplySettings,
): Promise<number> {
  const { file, user, waitMs } = settings
  const { printer } = parts
  if (!isManifestName(basename(file))) {
    printer.note(`meshctl: ${clean(file)}: a manifest's name ends in .json and begins with no dot`)
    return exitCodes.usage
  }
  const bytes = await readFile(file).catch(messageOf)
  if (typeof bytes === 'string') {
    const problems = [`${file}: cannot be read: ${bytes}`]
    return told(printer, { path: '', receipt: null, problems })
  }
  const reading = readManifest(file, bytes)
  if (!reading.ok) {
    return told(printer, { path: '', receipt: null, problems: reading.problems.map(renderProblem) })
  }
  const top = settings.directory ?? (await directoryOf(parts.agent))
  const isOwn = !(await mayWrite(top)) && (await mayWrite(`${top}/${user}`))
  const below = isOwn ? `${user}/${basename(file)}` : basename(file)
  const path = `${top}/${below}`
  try {
    await writeFileAtomic(path, bytes, { mode: 0o644 })
  } catch (error) {
    const hint = hintFor((error as NodeJS.ErrnoException).code, top, settings)
    throw new MeshError(`cannot write ${path}: ${messageOf(error)}`, { code: 'file', hint })
  }
  if (waitMs === 0) return told(printer, { path, receipt: null, problems: [] })
  const hash = createHash('sha256').update(bytes).digest('hex')
  const receiptPath = `${dirname(parts.agent.path)}/status/${below}`
  const until = parts.clock.elapsed() + waitMs
  for (;;) {
    const receipt = await receiptAt(receiptPath)
    const missing =
      receipt?.contentHash === hash ? lackOf(receipt) : 'the agent has not read it yet'
    const isOver = receipt?.contentHash === hash && receipt.verdict === 'rejected'
    if (missing === '' || isOver || parts.clock.elapsed() >= until) {
      const problems = isOver ? receipt.problems.map(lineOf) : missing === '' ? [] : [missing]
      return told(printer, { path, receipt, problems })
    }
    await delay(lookEveryMs)
  }
}

/** What helps whoever could not write; what is missing is missing for all. */
function hintFor(
  code: string | undefined,
  top: string,
  { user, isRoot = false }: ManifestApplySettings,
): string {
  if (code === 'ENOENT') return `the directory is missing: install -d -m 755 ${top}`
  if (isRoot) return ''
  return `the administrator makes a directory of your own: install -d -o ${user} ${top}/${user}`
}

function told(printer: Printer, applied: Applied): number {
  const { path, receipt, problems } = applied
  const isGood = problems.length === 0
  printer.result({ ok: isGood, ...applied }, () => {
    if (!isGood) return problems.map((line) => `${clean(line)}\n`).join('')
    if (receipt === null) return `${clean(path)}: in place`
    const { service, published } = receipt
    const how = published === undefined ? 'in force' : 'published'
    const warnings = receipt.warnings ?? []
    return [`${path}: ${service ?? ''} is ${how}`, ...warnings.map((one) => `warning: ${one}`)]
      .map(clean)
      .join('\n')
  })
  return isGood ? exitCodes.ok : exitCodes.notInOrder
}

/** What is missing before all that a manifest asks for is so; empty when nothing is. */
function lackOf({ verdict, published, health }: Receipt): string {
  if (verdict === 'rejected') return 'it was rejected'
  if (published === undefined) return ''
  const why = health === undefined || health.state === 'passing' ? '' : ` (${health.detail})`
  // What was published before stays so until the checks of this file have a verdict.
  if (health?.state === 'starting') return `accepted, but its first check is under way${why}`
  if (!published.ok) return `accepted, but not published: ${published.detail}${why}`
  return health?.state === 'failing' ? `accepted, but its health check does not pass${why}` : ''
}

/** As compilers print it; a receipt has what a problem needs. */
function lineOf(problem: Receipt['problems'][number]): string {
  return renderProblem({ path: '', ...problem })
}

async function receiptAt(path: string): Promise<Receipt | null> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Receipt
  } catch {
    return null
  }
}

/** Those who may not ask the agent get the usual place. */
async function directoryOf(agent: AdminSocket): Promise<string> {
  try {
    return (await agent.ask('status')).manifestDirectory.path
  } catch {
    return usualDirectory
  }
}

async function mayWrite(path: string): Promise<boolean> {
  return await access(path, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  )
}
