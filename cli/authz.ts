/** Owns `meshctl authz`: who may call the services of a host, and by which rule. */

import type { AuthzAnswer } from '#shared/model/admin-policies.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { clean, pairs, table } from './output/table.ts'

/** A call to ask about. */
export interface CallQuestion {
  /** `web`, `host/h1`, a whole SPIFFE id, or `-` for a program without an identity. */
  readonly source: string
  readonly service: string
  /** Empty to ask about the connection alone. */
  readonly method: string
  readonly path: string
  readonly host?: string
  /** Each `name=value`. */
  readonly headers: readonly string[]
}

/** Prints whether a call is permitted, and why; succeeds when it is. */
export async function authzExplain(
  parts: { readonly agent: AdminSocket; readonly printer: Printer },
  question: CallQuestion,
): Promise<number> {
  const { source, service, method, path, host, headers } = question
  const query = new URLSearchParams({ source, service, method, path })
  if (host !== undefined) query.set('host', host)
  for (const header of headers) query.append('header', header)
  const answer = await parts.agent.explain(query)
  parts.printer.result(answer, () => render(answer))
  switch (answer.kind) {
    case 'bad-question':
      return exitCodes.usage
    case 'elsewhere':
      return exitCodes.notInOrder
    case 'explained':
      return answer.verdict === 'denied' ? exitCodes.notInOrder : exitCodes.ok
  }
}

/** Prints the policy of every service of a host; succeeds when each protects its service. */
export async function authzList(parts: {
  readonly agent: AdminSocket
  readonly printer: Printer
}): Promise<number> {
  const report = await parts.agent.ask('policies')
  const { directory, files, services } = report
  const problems = [
    ...(directory.problem === '' ? [] : [`${directory.path}: ${directory.problem}`]),
    ...files.flatMap((file) => file.problems),
    ...services.flatMap(({ note }) => (note === '' ? [] : [note])),
  ]
  parts.printer.result(
    report,
    () =>
      table(
        ['SERVICE', 'DEFAULT', 'DENY', 'ALLOW', 'AUDIT', 'PROTECTION'],
        services.map(({ service, fallback, deny, allow, audit, protection }) => [
          service,
          fallback,
          String(deny),
          String(allow),
          audit ? 'yes' : 'no',
          protection,
        ]),
        'no services on this host',
      ) + problems.map((problem) => `\n${clean(problem)}`).join(''),
  )
  const isBad =
    directory.problem !== '' ||
    files.some(({ verdict }) => verdict === 'rejected') ||
    services.some(({ protection }) => protection === 'unprotected')
  return isBad ? exitCodes.notInOrder : exitCodes.ok
}

function render(answer: AuthzAnswer): string {
  switch (answer.kind) {
    case 'bad-question':
      return `${clean(answer.problem)}\n`
    case 'elsewhere': {
      const { service, hosts } = answer
      return hosts.length === 0
        ? `no host has a service ${clean(service)}\n`
        : `this host has no instance of ${clean(service)}; ask the agent of ${hosts.map(clean).join(' or ')}\n`
    }
    case 'explained': {
      const { verdict, by, ref, reason, audit, source, doubt, destination, path } = answer
      const facts: (readonly [string, string])[] = [
        ['verdict', reason === '' ? verdict : `${verdict} (${reason})`],
        ['by', by],
        ...(ref === null || ref.file === ''
          ? []
          : ([['rule', `${ref.rule} at ${ref.file}:${ref.line}`]] as const)),
        ...(audit === null ? [] : ([['in audit', audit]] as const)),
        ['caller', source === '' ? 'a program without an identity' : source],
        ...(doubt === '' ? [] : ([['but', doubt]] as const)),
        ['service', destination],
        ...(path === '' ? [] : ([['path', path]] as const)),
      ]
      return `${pairs(facts)}\n${rulesOf(answer)}`
    }
  }
}

function rulesOf({ rules }: Extract<AuthzAnswer, { kind: 'explained' }>): string {
  return table(
    ['EFFECT', 'MODE', 'RULE', 'PLACE', 'SAYS', 'WHY'],
    rules.map(({ effect, mode, ref, outcome, why }) => [
      effect,
      mode,
      ref.rule,
      `${ref.file}:${ref.line}`,
      outcome,
      why,
    ]),
    'there are no rules; the default counts',
  )
}
