// Each guard, the scenario that must fail without it, and how.
export const GUARDS = [
  ['lease', 'rights', 'a node that is cut off goes on telling what it hears itself'],
  ['beat', 'redis', 'a node does not notice that its Redis says nothing any more'],
  ['tag', 'redis', 'whoever reaches Redis moves drivers'],
  ['fence', 'takeover', 'a session that was taken over goes on writing'],
  ['lock', 'migrations', 'two nodes make the tables at once'],
];
