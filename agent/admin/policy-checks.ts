/** Owns the checks of policies: files that cannot be read, services open past them, rules that do nothing. Pure. */

import { bad, list, ok, type Check } from './judgement.ts'

/** In the order they are shown. */
export const policyChecks: readonly Check[] = [
  {
    name: 'policy-files',
    judge: ({ policies: { directory, files } }) => {
      const rejected = files.filter(({ verdict }) => verdict === 'rejected')
      if (directory.problem !== '')
        return bad(
          'failed',
          `${directory.path}: ${directory.problem}`,
          'what was last known of it stays in force',
          `chown root ${directory.path} && chmod 755 ${directory.path}, or set paths.policies`,
        )
      return rejected.length === 0
        ? ok(`${files.length} accepted from ${directory.path}`)
        : bad(
            'failed',
            `${rejected.length} of ${files.length} rejected`,
            list(rejected.flatMap(({ problems }) => problems)),
            'correct the files; their last good versions stay in force until then',
          )
    },
  },
  {
    name: 'policy-protection',
    judge: ({ policies: { services } }) => {
      const strict = services.filter((service) => service.strict)
      const notes = strict.filter(({ note }) => note !== '')
      const isOpen = notes.some(({ protection }) => protection === 'unprotected')
      if (strict.length === 0) return ok('no service of this host says who may call it')
      return notes.length === 0
        ? ok(`${strict.length} services can only be reached through their policy`)
        : bad(
            isOpen ? 'failed' : 'warning',
            `${notes.length} of ${strict.length} can be reached past their policy`,
            list(notes.map(({ service, note }) => `${service}: ${note}`)),
            isOpen
              ? 'let them listen on 127.0.0.1 only; until then they are not in the mesh'
              : 'keep local users who are not trusted off this host',
          )
    },
  },
  {
    name: 'policy-rules',
    judge: ({ policies: { services } }) => {
      const idle = services.flatMap((service) => service.idle)
      const audited = services.filter(({ audit }) => audit).map(({ service }) => service)
      const words = audited.length === 0 ? '' : `; in audit mode: ${list(audited)}`
      return idle.length === 0
        ? ok(`every rule can do what it says${words}`)
        : bad(
            'warning',
            `${idle.length} rules do not do what they say`,
            list(idle),
            'correct them; "meshctl authz explain" shows what a rule says of a call',
          )
    },
  },
]
