/**
 * The callers of one host, as a program of its own in that host's place: so many keep-alive and so
 * many new-connection clients, one request after the other each, no retries. Every request is
 * counted once; not 2xx, reset, refused or late is a failure; of a late one it tells how long this
 * program itself was kept from the processor meanwhile. It tells its counts every 100 ms, one JSON
 * line each. Its arguments: a list of targets, JSON; and how many milliseconds an answer may take.
 */

import { Agent, request } from 'node:http'
import type { LoadLine, LoadTarget } from './load.ts'

const targets = JSON.parse(process.argv[2] ?? '[]') as readonly LoadTarget[]
const patienceMs = Number(process.argv[3])
const tellMs = 100
const agent = new Agent({ keepAlive: true, maxSockets: 1024 })

let requests = 0
let failed = 0
/** Since the last line. */
let failures: { readonly atMs: number; readonly what: string }[] = []
/** When each host answered last, and how often, by target. */
const answered: Record<string, Record<string, { count: number; lastAtMs: number }>> = {}

/** Longest pause between two rounds of this program, by the second it ended in. */
const pauses = new Map<number, number>()
let roundAt = Date.now()
setInterval(() => {
  const now = Date.now()
  const second = Math.floor(now / 1000)
  pauses.set(second, Math.max(pauses.get(second) ?? 0, now - roundAt))
  pauses.delete(second - 10)
  roundAt = now
}, 20)

/** The longest pause of this program while a late request was under way, milliseconds. */
function longestPause(): number {
  const since = Math.floor((Date.now() - patienceMs) / 1000)
  const ended = Array.from(pauses, ([second, ms]) => (second >= since ? ms : 0))
  return Math.max(Date.now() - roundAt, ...ended)
}

function ask(target: LoadTarget): Promise<{ readonly host: string; readonly problem: string }> {
  return new Promise((resolve) => {
    const none = (problem: string): void => resolve({ host: '', problem })
    const { host, port } = target
    const sent = request(
      { host, port, path: '/', agent: target.fresh ? false : agent },
      (response) => {
        let body = ''
        response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
        response.on('error', (error) => none(`half an answer: ${error.message}`))
        response.on('end', () => {
          const { statusCode: status = 0, headers } = response
          const good = status >= 200 && status < 300
          const reason = String(headers['x-mesh-reason'] ?? '')
          const named = /"host":"([^"]*)"/.exec(body)?.[1] ?? ''
          resolve({ host: named, problem: good ? '' : `${status} ${reason}` })
        })
      },
    )
    const late = setTimeout(() => {
      const words = `no answer within ${patienceMs} ms; the caller paused for ${longestPause()} ms`
      sent.destroy(new Error(words))
    }, patienceMs)
    sent.on('close', () => clearTimeout(late))
    sent.on('error', (error: NodeJS.ErrnoException) => none(error.code ?? error.message))
    sent.end()
  })
}

async function loop(target: LoadTarget): Promise<void> {
  for (;;) {
    const { host, problem } = await ask(target)
    const atMs = Date.now()
    requests++
    if (problem === '') {
      const byHost = (answered[target.name] ??= {})
      const count = (byHost[host]?.count ?? 0) + 1
      byHost[host] = { count, lastAtMs: atMs }
    } else {
      failed++
      if (failures.length < 100) failures.push({ atMs, what: `${target.name}: ${problem}` })
    }
    await new Promise((resolve) => setTimeout(resolve, target.pauseMs * (0.5 + Math.random())))
  }
}

setInterval(() => {
  const line: LoadLine = { requests, failed, failures, answered }
  process.stdout.write(`${JSON.stringify(line)}\n`)
  failures = []
}, tellMs)

for (const target of targets) {
  for (let client = 0; client < target.clients; client++) void loop(target)
}
