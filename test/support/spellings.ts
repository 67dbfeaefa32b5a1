/**
 * Owns ways to spell what a policy forbids: paths, methods and hosts that some service, proxy or
 * framework takes for the plain one. Each is a whole HTTP/1.1 request.
 */

/** A request whose plain reading is forbidden. */
export interface Spelling {
  readonly name: string
  readonly request: string
}

const end = '\r\n\r\n'

function spell(line: string, ...fields: readonly string[]): Spelling {
  const name = [line, ...fields].join(' | ')
  return { name, request: [`${line} HTTP/1.1`, ...fields].join('\r\n') + end }
}

/** Every combination of one of each. */
function across(...lists: readonly (readonly string[])[]): readonly string[] {
  return lists.reduce<readonly string[]>(
    (all, list) => all.flatMap((head) => list.map((tail) => head + tail)),
    [''],
  )
}

/** Words between blanks. */
function words(text: string): readonly string[] {
  return text.trim().split(/\s+/)
}

/** The word in every case. */
function cases(word: string): readonly string[] {
  return across(
    ...word.split('').map((char) => [...new Set([char.toLowerCase(), char.toUpperCase()])]),
  )
}

/** Spellings of `/admin` and what is below it. */
export function pathSpellings(): readonly Spelling[] {
  const before = [
    '',
    ...words(String.raw`
      / /. /./ /x/.. /x/../y/.. /%2e /x/%2e%2e /x/%2E. /x/.%2e /x/..; /x/..;a=b /; /;a \
      /x\.. /x%5c.. /x/..%2f /x%2f.. /%2f /x/%252e%252e /x/%c0%ae%c0%ae
      /x/%EF%BC%8E%EF%BC%8E /x/..%00 /..
    `),
  ]
  const word = [
    ...words(String.raw`
      /admin /ADMIN /Admin /%61dmin /ad%6Din /ad%6din /%41DMIN /admi%6e /%2561dmin
      /adm%C4%B1n /%EF%BD%81dmin /ad%E2%80%8Bmin /ad%C2%ADmin %2fadmin /admin. /admin%20
      /admin%2e %5cadmin \admin %EF%BC%8Fadmin /%u0061dmin
    `),
  ]
  const after = [
    '',
    ...words(String.raw`
      / // /. /keys /KEYS/ /keys/../keys ; ;a=b /;x ?a /?a=/ %00 %00.png %23 %3f %3Fa %3b
      %09 %0a /%20 %2f %2fkeys \
    `),
  ]
  const plain = across(before, word, after).filter((_, i) => i % 13 === 0)
  const few = across(before, ['/admin', '/Admin'], ['', '/keys'])
  const targets = [...new Set([...few, ...plain])]
  return [
    ...targets.map((target) => spell(`GET ${target}`, 'Host: orders.mesh')),
    ...targets
      .slice(0, 40)
      .map((target) => spell(`GET http://orders.mesh${target}`, 'Host: orders.mesh')),
    ...['X-Original-URL', 'X-Rewrite-URL', 'x_original_url', 'X_Rewrite_Url'].map((field) =>
      spell('GET /', 'Host: orders.mesh', `${field}: /admin`),
    ),
    spell('GET /admin#x', 'Host: orders.mesh'),
    spell('GET #/../admin', 'Host: orders.mesh'),
    spell('GET admin', 'Host: orders.mesh'),
  ]
}

/** Spellings of `DELETE`. */
export function methodSpellings(): readonly Spelling[] {
  const host = 'Host: orders.mesh'
  const fields = [
    ...words(String.raw`
      X-HTTP-Method-Override X-HTTP-Method X-Method-Override X_HTTP_METHOD_OVERRIDE
      x-http_method-override x_http_method X-METHOD-OVERRIDE
    `),
  ]
  const parameters = [
    ...words(String.raw`
      _method=DELETE a=1&_method=delete _METHOD=DELETE %5fmethod=DELETE _%6dethod=DELETE
      a;_method=DELETE _method[]=DELETE +_method=DELETE %20_method=DELETE
    `),
  ]
  const others = ['POST', 'GET', 'PUT', 'PATCH']
  return [
    ...cases('DELETE').map((method) => spell(`${method} /thing`, host)),
    ...others.flatMap((method) =>
      fields.flatMap((field) =>
        ['DELETE', 'delete', ' Delete '].map((value) =>
          spell(`${method} /thing`, host, `${field}: ${value}`),
        ),
      ),
    ),
    ...others.flatMap((method) => parameters.map((one) => spell(`${method} /thing?${one}`, host))),
  ]
}

/** Spellings of the host `admin.mesh`. */
export function hostSpellings(): readonly Spelling[] {
  const names = [
    ...cases('admin').flatMap((word) => [`${word}.mesh`, `${word}.MESH`]),
    ...words(String.raw`
      admin.mesh. admin.mesh.. ADMIN.mesh. admin.mesh%2e admin%2emesh %61dmin.mesh
      admin.mesh# admin.mesh/ admin.mesh,orders.mesh orders.mesh,admin.mesh @admin.mesh
    `),
  ]
  const ports = ['', ':80', ':8080', ':', ':080', ':99999', ': 80']
  return [
    ...across(names, ports).map((name) => spell('GET /', `Host: ${name}`)),
    ...names
      .slice(0, 24)
      .flatMap((name) => [
        spell(`GET http://${name}/`, `Host: ${name}`),
        spell(`GET http://${name}/`, 'Host: orders.mesh'),
        spell(`GET http://${name}/`),
        spell('GET /', 'Host: orders.mesh', `Host: ${name}`),
        spell('GET /', 'Host: orders.mesh', ` ${name}`),
        spell('GET /', `Host : ${name}`),
      ]),
    spell('GET /', 'Host:'),
    { name: 'HTTP/1.0 without Host', request: `GET / HTTP/1.0${end}` },
  ]
}
