/**
 * Owns nginx as a program of a test: one server with a test's own directives, in a directory of its
 * own. Answers the words that start it.
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findProgram } from '#cli/find-program.ts'

/** What a test says of its nginx. */
export interface NginxSettings {
  readonly directory: string
  /** `address:port` */
  readonly listen: string
  /** Directives of the server. */
  readonly server: string
  /** Directives beside the server. @default '' */
  readonly http?: string
  /** Files it may serve, by name, with their bytes. */
  readonly files?: Readonly<Record<string, string | Buffer>>
}

/** Writes config and files. */
export function prepareNginx(settings: NginxSettings): readonly [string, ...string[]] {
  const { directory, listen, server, http = '', files = {} } = settings
  const html = join(directory, 'html')
  mkdirSync(html, { recursive: true })
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(html, name), bytes)
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${join(directory, name)};`,
  )
  const config = join(directory, 'nginx.conf')
  writeFileSync(
    config,
    `daemon off; master_process off; pid ${join(directory, 'pid')}; error_log stderr crit;
events { worker_connections 512; }
http {
  access_log off; keepalive_requests 100000; ${temporary.join(' ')}
  ${http}
  server { listen ${listen}; root ${html}; ${server} }
}
`,
  )
  return [findProgram('nginx') ?? 'nginx', '-e', 'stderr', '-p', directory, '-c', config]
}
