/** Owns the command line of meshctl as plain data, for completions and manual pages. */

import type { Command, Option } from 'commander'
import { makeProgram } from '#cli/commands/program.ts'

/** An option of a verb. */
export interface VerbOption {
  /** As in `--ttl`. */
  readonly name: string
  /** As in `--ttl <time>`. */
  readonly usage: string
  readonly description: string
  /** What its value is called, as in `<path>`; empty where it takes none. */
  readonly value: string
  /** The variable that sets it too; may be empty. */
  readonly variable: string
  /** What holds without it; empty where nothing does. */
  readonly preset: string
}

/** A verb, or a word that only groups verbs. */
export interface Verb {
  /** The words that lead to it, without `meshctl`; empty for all of it. */
  readonly path: readonly string[]
  readonly usage: string
  readonly description: string
  readonly options: readonly VerbOption[]
  readonly verbs: readonly Verb[]
  /** The values that an argument may have, where they are few. */
  readonly choices: readonly string[]
}

/** The whole command line. */
export function verbTree(): Verb {
  const nothing = (): void => {}
  const streams = { out: nothing, err: nothing }
  const about = { version: '', documents: '' }
  const surroundings = {
    ...about,
    streams,
    user: '',
    isRoot: false,
    killGroup: nothing,
    beforeSignal: () => nothing,
    exit: nothing,
  }
  return verbOf(makeProgram(surroundings), [])
}

/** A verb and everything below it, in the order of the help. */
export function everyVerb(verb: Verb): readonly Verb[] {
  return [verb, ...verb.verbs.flatMap(everyVerb)]
}

function verbOf(command: Command, path: readonly string[]): Verb {
  const names = command.registeredArguments.map((argument) => {
    const name = `${argument.name()}${argument.variadic ? '...' : ''}`
    return argument.required ? `<${name.replace(/^<|>$/g, '')}>` : `[${name}]`
  })
  return {
    path,
    usage: ['meshctl', ...path, ...names].join(' '),
    description: command.description(),
    options: command.options.filter(({ hidden }) => !hidden).map(optionOf),
    verbs: command.commands.map((child) => verbOf(child, [...path, child.name()])),
    choices: command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
  }
}

function optionOf(option: Option): VerbOption {
  const { flags, description, envVar = '', defaultValue: preset, required, optional } = option
  const shown = preset === undefined || typeof preset === 'boolean' || preset === ''
  return {
    name: option.long ?? flags,
    usage: flags,
    description,
    value: required || optional ? (/[<[].*$/.exec(flags)?.[0] ?? '') : '',
    variable: envVar,
    preset: shown ? '' : (option.defaultValueDescription ?? String(preset)),
  }
}
