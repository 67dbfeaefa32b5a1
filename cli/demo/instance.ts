/**
 * Owns the services of the demo: programs that know nothing of a mesh. nginx and Python's own web
 * server where they are installed, a few lines of Node otherwise.
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { findProgram } from '#cli/find-program.ts'

/** A service's program. */
export interface InstanceProgram {
  /** What it is, for the person who watches. */
  readonly what: string
  readonly command: readonly [string, ...string[]]
}

/** Settings of an instance. */
export interface InstanceSettings {
  readonly service: string
  readonly host: string
  readonly address: string
  readonly port: number
  /** Its own directory. */
  readonly directory: string
  /** What to run if it is installed. */
  readonly prefer: 'nginx' | 'python3'
  /** Runs `serveFiles`, given address, port and directory behind it. */
  readonly fallback: readonly [string, ...string[]]
}

/** The page that tells who answered. */
export const whoamiPath = '/whoami.json'

/** Writes the files of an instance and answers what to run. */
export function prepareInstance(settings: InstanceSettings): InstanceProgram {
  const { service, host, directory, address, port, prefer, fallback } = settings
  const files = join(directory, 'files')
  mkdirSync(files, { recursive: true })
  writeFileSync(join(files, whoamiPath), `${JSON.stringify({ service, host })}\n`)
  const program = findProgram(prefer)
  if (program === null) {
    return { what: 'a small Node program', command: [...fallback, address, String(port), files] }
  }
  if (prefer === 'python3') {
    const words = ['-m', 'http.server', '--bind', address, '--directory', files, String(port)]
    return { what: 'python3 -m http.server', command: [program, ...words] }
  }
  const config = join(directory, 'nginx.conf')
  writeFileSync(config, nginxConfig(directory, files, address, port))
  return { what: 'nginx', command: [program, '-e', 'stderr', '-p', directory, '-c', config] }
}

function nginxConfig(directory: string, files: string, address: string, port: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `  ${name}_temp_path ${join(directory, name)};`)
    .join('\n')
  return `daemon off;
master_process off;
pid ${join(directory, 'nginx.pid')};
error_log stderr warn;
events { worker_connections 512; }
http {
  access_log off;
  default_type application/json;
${temporary}
  server {
    listen ${address}:${port};
    root ${files};
  }
}
`
}

/** The service in a few lines of Node: answers every request with its page. */
export function serveFiles(address: string, port: number, page: string): void {
  createServer((_request, response) => {
    response.setHeader('content-type', 'application/json').end(page)
  }).listen(port, address)
}
