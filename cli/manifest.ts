/** Owns `meshctl manifest`: what became of the files dropped here, and a look before dropping one. */

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { basename } from 'node:path'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import { isManifestName } from '#shared/model/manifest-name.ts'
import { maxDocumentBytes } from '#shared/schema/json-document.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import type { ManifestReport } from '#shared/model/admin-services.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { clean, duration, table } from './output/table.ts'

/** Prints the verdict on every manifest of this host; succeeds when all were accepted. */
export async function manifestStatus(parts: {
  readonly agent: AdminSocket
  readonly printer: Printer
}): Promise<number> {
  const reports = await parts.agent.ask('manifests')
  const { manifestDirectory, nowMs } = await parts.agent.ask('status')
  const { path, problem } = manifestDirectory
  // An agent of an earlier version tells none.
  const fix = 'fix' in manifestDirectory ? ` (${manifestDirectory.fix})` : ''
  const problems = [
    ...(problem === '' ? [] : [`${path}: ${problem}${fix}`]),
    ...reports.flatMap((report) => report.problems),
    ...reports.flatMap(lacksOf),
    ...reports.flatMap(({ file, warnings = [] }) =>
      warnings.map((one) => `${file}: warning: ${one}`),
    ),
  ]
  parts.printer.result(
    reports,
    () =>
      table(
        ['FILE', 'SERVICE', 'VERDICT', 'JUDGED', 'HEALTH', 'PUBLISHED', 'CERTIFICATE', 'UPSTREAMS'],
        reports.map((report) => [
          report.file,
          report.service,
          verdictOf(report),
          report.judgedAtMs === undefined ? '-' : `${duration(nowMs - report.judgedAtMs)} ago`,
          ...(report.health === 'none' ? ['-', '-'] : [report.health, publication(report)]),
          expiry(report.certificateEndsMs, nowMs),
          report.upstreams.join(','),
        ]),
        `no manifests in ${clean(path)}`,
      ) + problems.map((problem) => `\n${clean(problem)}`).join(''),
  )
  const rejected = reports.some(({ verdict }) => verdict === 'rejected')
  return rejected || problem !== '' ? exitCodes.notInOrder : exitCodes.ok
}

function verdictOf({ verdict, service }: ManifestReport): string {
  return verdict === 'rejected' && service !== '' ? 'rejected, last good in force' : verdict
}

function publication({ published, revision }: ManifestReport): string {
  return published ? `yes, revision ${revision}` : 'no'
}

/** What a manifest asks for and is not so. */
function lacksOf(report: ManifestReport): readonly string[] {
  const { service, health, healthDetail, portsDown, published, withheld } = report
  if (health === 'none') return []
  return [
    ...(healthDetail === '' ? [] : [`${service}: ${health}: ${healthDetail}`]),
    ...portsDown.map((port) => `${service}: port ${port}`),
    ...(published ? [] : [`${service}: not published: ${withheld}`]),
  ]
}

function expiry(endsMs: number, nowMs: number): string {
  if (endsMs === 0) return '-'
  return endsMs <= nowMs ? 'expired' : `for ${duration(endsMs - nowMs)}`
}

/**
 * Reads files as an agent would, each by itself and without an agent; succeeds when nothing in them is
 * wrong. Names count where files are dropped, not before: programs look at a copy under a name of its own.
 */
export function manifestValidate(
  parts: { readonly printer: Printer },
  settings: { readonly files: readonly string[] },
): number {
  const reports = settings.files.map((file) => ({ file, problems: problemsOf(file) }))
  parts.printer.result(reports, () =>
    reports
      .map(({ file, problems }) =>
        (problems.length === 0 ? [goodWords(file)] : problems)
          .map((line) => `${clean(line)}\n`)
          .join(''),
      )
      .join(''),
  )
  const bad = reports.some(({ problems }) => problems.length > 0)
  return bad ? exitCodes.notInOrder : exitCodes.ok
}

function goodWords(file: string): string {
  if (isManifestName(basename(file))) return `${file}: good`
  return `${file}: good, but ignored under this name: a manifest's ends in .json and begins with no dot`
}

function problemsOf(file: string): readonly string[] {
  let bytes: Uint8Array
  try {
    bytes = readAsAgent(file)
  } catch (error) {
    const isLink = (error as NodeJS.ErrnoException).code === 'ELOOP'
    const problem = isLink ? 'symbolic links are not followed' : messageOf(error)
    return [`${file}: cannot be read: ${problem}`]
  }
  const reading = readManifest(file, bytes)
  return reading.ok ? [] : reading.problems.map(renderProblem)
}

/** A bounded read of a regular file, which waits for nobody at the other end of a pipe. */
function readAsAgent(file: string): Uint8Array {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  const fd = openSync(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    const stats = fstatSync(fd)
    if (!stats.isFile()) throw new Error('this is not a regular file')
    if (stats.nlink > 1) throw new Error(`it has ${stats.nlink} names (hard links)`)
    // One byte more than allowed, so that the reader itself says that it is too large.
    const bytes = Buffer.alloc(Math.min(stats.size, maxDocumentBytes) + 1)
    let length = 0
    for (let more = -1; more !== 0 && length < bytes.length; length += more) {
      more = readSync(fd, bytes, length, bytes.length - length, length)
    }
    return bytes.subarray(0, length)
  } finally {
    closeSync(fd)
  }
}
