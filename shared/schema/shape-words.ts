/**
 * Owns how the patterns of texts in manifests, policies and configurations read in a sentence. A test
 * sees to it that each of them has its words.
 */

const label = 'lower-case letters, digits and hyphens, with a letter or digit at both ends'
const portName = 'lower-case letters, digits and hyphens, with a letter first and no hyphen last'

const words: Readonly<Record<string, string>> = {
  '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$': label,
  '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$': portName,
  '^(?:\\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?|[a-z0-9][a-z0-9-]{0,61}\\*)$':
    "a service's name, or with * at the end the beginning of names",
  '^[A-Za-z_][A-Za-z0-9_.-]{0,63}$': 'the name of a user',
  '^[A-Za-z0-9_./-]{1,253}$': 'letters, digits, ".", "_", "-" and "/"',
  '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$':
    'letters, digits, ".", "_" and "-", with a letter or digit first',
  '^[!-~]{1,63}$': 'visible ASCII characters without spaces',
  '^[A-Za-z0-9:_.\\\\@][A-Za-z0-9:_.\\\\@-]{0,200}\\.(?:service|socket|target|timer|mount|path|slice|scope)$':
    'the whole name of a unit, as in "orders.service"',
  '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}[$]?$': 'the name or number of a user',
  '^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$':
    'a host name, as in "db.example.com"',
  '^/': 'an absolute path',
}

/** The words for a text that fits `pattern`; null where there are none. */
export function shapeWords(pattern: string): string | null {
  return words[pattern] ?? null
}
