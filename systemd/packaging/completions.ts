/** Owns what completes meshctl's words in three shells, made from its command line. Pure. */

import { everyVerb, type Verb } from './verb-tree.ts'

/** Files that shells read, by shell. */
export function completions(root: Verb): Readonly<Record<'bash' | 'zsh' | 'fish', string>> {
  return { bash: bash(root), zsh: zsh(root), fish: fish(root) }
}

const origin = 'Completes meshctl; made from its own command line.'

/** Words after which a path may follow, as a shell's patterns. */
function steps(root: Verb): readonly string[] {
  return everyVerb(root)
    .slice(1)
    .map(({ path }) => path.join(' '))
}

/** What may stand behind a verb: further verbs, values, options of its own and of all verbs. */
function wordsAt(root: Verb, verb: Verb): readonly (readonly [word: string, meaning: string])[] {
  const options = verb === root ? root.options : [...verb.options, ...root.options]
  return [
    ...verb.verbs.map(({ path, description }) => [path.at(-1) ?? '', description] as const),
    ...verb.choices.map((choice) => [choice, ''] as const),
    ...new Map(options.map((one) => [one.name, one.description])),
    ['--help', 'how it is used'] as const,
  ]
}

/** Options whose value is no word of ours. */
function valued(root: Verb): readonly string[] {
  const options = everyVerb(root).flatMap((verb) => verb.options)
  return [...new Set(options.filter(({ value }) => value !== '').map(({ name }) => name))]
}

function bash(root: Verb): string {
  const cases = everyVerb(root).map((verb) => {
    const words = wordsAt(root, verb).map(([word]) => word)
    return `    '${verb.path.join(' ')}') words='${words.join(' ')}' ;;`
  })
  return `# ${origin}
_meshctl() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} at='' word words='' i
  case $before in
    ${valued(root).join('|')}) COMPREPLY=(); return ;;
  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${at:+$at }\${COMP_WORDS[i]}"
    case $word in
      ${steps(root)
        .map((step) => `'${step}'`)
        .join('|')}) at=$word ;;
    esac
  done
  case $at in
${cases.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F _meshctl meshctl
`
}

function zsh(root: Verb): string {
  const cases = everyVerb(root).map((verb) => {
    const all = wordsAt(root, verb).map(
      ([word, meaning]) => `'${quoted(word)}${meaning === '' ? '' : `:${quoted(meaning)}`}'`,
    )
    return `    '${verb.path.join(' ')}') words_here=(${all.join(' ')}) ;;`
  })
  return `#compdef meshctl
# ${origin}
_meshctl() {
  local at='' word
  local -a words_here
  case \${words[CURRENT - 1]} in
    ${valued(root).join('|')}) _files; return ;;
  esac
  for word in \${words[2, CURRENT - 1]}; do
    word="\${at:+$at }$word"
    case $word in
      ${steps(root)
        .map((step) => `'${step}'`)
        .join('|')}) at=$word ;;
    esac
  done
  case $at in
${cases.join('\n')}
  esac
  _describe 'meshctl' words_here || _files
}
_meshctl "$@"
`
}

function fish(root: Verb): string {
  const lines = everyVerb(root).flatMap((verb) => {
    const at = `-n '__meshctl_at "${verb.path.join(' ')}"'`
    return [
      ...verb.verbs.map(
        ({ path, description }) =>
          `complete -c meshctl ${at} -f -a '${path.at(-1) ?? ''}' -d '${quoted(description)}'`,
      ),
      ...verb.choices.map((choice) => `complete -c meshctl ${at} -f -a '${choice}'`),
      ...verb.options.map(({ name, value, description }) => {
        const where = verb === root ? '' : ` ${at}`
        const takes = value === '' ? '' : ' -r'
        return `complete -c meshctl${where} -l '${name.slice(2)}'${takes} -d '${quoted(description)}'`
      }),
    ]
  })
  return `# ${origin}
function __meshctl_at
    set -l at
    for word in (commandline -opc)[2..-1]
        switch (string join ' ' -- $at $word)
            case ${steps(root)
              .map((step) => `'${step}'`)
              .join(' ')}
                set -a at $word
        end
    end
    test "$at" = "$argv[1]"
end
${lines.join('\n')}
`
}

/** Within single quotes; these shells agree on nothing inside them but that they end. */
function quoted(text: string): string {
  return text.replaceAll("'", '’').replaceAll(':', '\\:')
}
