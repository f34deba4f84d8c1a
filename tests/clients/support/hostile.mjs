// What no correct client sends, and what correct clients send that is unusual: each with a name, for Ordercast and for Socket.IO's own server.
import { frame } from './engineio.mjs';
import { binary, http, polling, TOKEN, upgrade, websocket } from './transcript.mjs';

const CASES = new Map();
const add = (name, run) => {
  if (CASES.has(name)) throw new Error(`two cases are called ${name}`);
  CASES.set(name, run);
};
/** By name: a function of the server that returns what a client saw. */
export const cases = CASES;

const AT = '/socket.io/';
const show = (packet) => {
  if (Buffer.isBuffer(packet)) return `<${packet.toString('hex').slice(0, 24)}>`;
  const text = packet.replaceAll(TOKEN, 'T').replaceAll('\u001e', '␞')
    .replace(/[\u0000-\u001f\ufeff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return text.length > 60 ? `${text.slice(0, 40)}… (${text.length})` : text;
};

// --- handshakes

for (const query of ['', 'EIO=4', 'EIO=4&transport=', 'EIO=4&transport=pigeon', 'EIO=4&transport=Polling', 'EIO=4&transport=webtransport', 'EIO=4&transport=websocket',
  'transport=polling&b64=1', 'transport=polling', 'EIO=&transport=polling', 'EIO=3&transport=polling', 'EIO=3&transport=polling&b64=1', 'EIO=2&transport=polling',
  'EIO=5&transport=polling', 'EIO=abc&transport=polling', 'EIO=4&EIO=3&transport=polling', 'EIO=3&EIO=4&transport=polling', 'eio=4&transport=polling', 'EIO=%34&transport=poll%69ng', 'EIO=4&transport=pigeon&transport=polling',
  'EIO=4&transport=polling&sid=', 'EIO=4&transport=polling&sid=nobody', 'EIO=3&transport=polling&sid=nobody', 'EIO=4&transport=polling&sid=__proto__', 'EIO=4&transport=polling&sid=..%2f..%2f',
  `EIO=4&transport=polling&sid=${'x'.repeat(2000)}`, 'EIO=4&transport=polling&j=0', 'EIO=4&transport=polling&b64=1', 'EIO=4&transport=polling&&&=&t', 'EIO=4&transport=polling&t=%zz']) {
  add(`GET ?${show(query)}`, http('GET', `${AT}?${query}`));
}
for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'POLL']) {
  add(`${method} without a sid`, http(method, `${AT}?EIO=4&transport=polling`));
  add(`${method} with an unknown sid`, http(method, `${AT}?EIO=4&transport=polling&sid=nobody`, { body: method === 'POST' ? '2' : '' }));
}
add('HEAD without a sid', http('HEAD', `${AT}?EIO=4&transport=polling`));
for (const [name, target] of [['without its slash', '/socket.io?EIO=4&transport=polling'], ['with more after it', `${AT}more?EIO=4&transport=polling`], ['doubled', '//socket.io/?EIO=4&transport=polling'],
  ['in capitals', '/Socket.IO/?EIO=4&transport=polling']]) {
  add(`the path ${name}`, http('GET', target));
}
for (const [name, query] of [['websocket', 'EIO=4&transport=websocket'], ['polling', 'EIO=4&transport=polling'], ['an unknown sid', 'EIO=4&transport=websocket&sid=nobody'], ['no transport', 'EIO=4'],
  ['an unknown transport', 'EIO=4&transport=pigeon']]) {
  const upgrades = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' };
  const without = ({ [name]: _, ...headers }) => headers;
  if (name !== 'websocket' && name !== 'polling') add(`WebSocket handshake with ${name}`, http('GET', `${AT}?${query}`, { headers: upgrades }));
  if (name === 'websocket') {
    add('WebSocket handshake without a key', http('GET', `${AT}?${query}`, { headers: without({ ...upgrades, 'sec-websocket-key': '' }) }));
    add('WebSocket handshake of version 12', http('GET', `${AT}?${query}`, { headers: { ...upgrades, 'sec-websocket-version': '12' } }));
    add('WebSocket handshake with POST', http('POST', `${AT}?${query}`, { headers: upgrades }));
    add('WebSocket handshake with another upgrade', http('GET', `${AT}?${query}`, { headers: { ...upgrades, upgrade: 'h2c' } }));
  }
}
for (const name of ['socket.io.min.js', 'socket.io.esm.min.js', 'socket.io.php', 'socket.io.js.map']) add(`GET ${name}`, (server) => http('GET', `${AT}${name}`)(server).then((text) => text.slice(0, 60)));

// --- requests with a sid

const bare = (method, more = '') => async (session) => {
  const { server, target } = session;
  return http(method, target + more, { body: method === 'POST' ? '3' : '' })(server);
};
for (const method of ['PUT', 'PATCH', 'DELETE', 'OPTIONS']) add(`${method} with a sid`, polling([bare(method)]));
add('a poll of another version', polling([bare('GET', '&EIO=3')]));
add('a post of another version', polling([bare('POST', '&EIO=3')]));
add('a poll of another transport', polling([bare('GET', '&transport=websocket')]));
add('a post of another transport', polling([bare('POST', '&transport=websocket')]));
add('a post of JSON', polling([(session) => session.post('3', { 'content-type': 'application/json' })]));
add('a post of bytes', polling([(session) => session.post('3', { 'content-type': 'application/octet-stream' })]));
add('a post without a type', polling([(session) => session.post('3', {})]));
add('two polls at once', polling([async (session) => {
  const polls = await Promise.all([session.poll(), session.poll()]);
  return polls.map(({ status, text }) => `${status} ${text}`).sort().join(', ');
}]));

// --- Engine.IO packets

const ENGINE = ['', '0', '0{}', '1', '1x', '2', '2x', '2probe', '3', '3x', '3probe', '4', '5', '5x', '6', '6x', '7', '9', 'x', ' 3', 'é', '😀', '\u0000', 'b', 'bAQID', 'b!!!', 'bAQI', 'b4AQID'];
for (const packet of ENGINE) {
  for (const joins of [false, true]) {
    const when = joins ? ', joined' : '';
    add(`polling: ${show(packet) || 'nothing'}${when}`, polling([packet], { joins }));
    add(`WebSocket: ${show(packet) || 'nothing'}${when}`, websocket([packet], { joins }));
  }
}
for (const body of ['\u001e', '3\u001e', '\u001e3', '3\u001e\u001e3', '3\u001e6\u001e3', '3\u001ex', 'x\u001e3', '3\n', '1\u001e3', '3\u001e1', '6\u001e6\u001e6']) add(`polling: ${show(body)}`, polling([body]));
add('polling: bytes that are not UTF-8', polling([Buffer.from([0x34, 0xff, 0xfe])]));
add('polling: a packet cut in a character', polling([Buffer.from([0x34, 0x34, 0xc3])]));
add('WebSocket: binary without a packet for it', websocket([binary(1, 2, 3)], { joins: true }));
add('WebSocket: binary before it joins', websocket([binary(0x34, 0x30)]));
add('WebSocket: empty binary', websocket([binary()], { joins: true }));
add('WebSocket: a ping and a pong', websocket([frame('', { opcode: 9 }), frame('x', { opcode: 10 })]));
add('WebSocket: not UTF-8', websocket([frame(Buffer.from([0x34, 0xff]))], { joins: true }));
add('WebSocket: not masked', websocket([frame('2', { masked: false })]));
add('WebSocket: too long', websocket([`42/realtime,["ping:latency",{"t":"${'x'.repeat(70_000)}"}]`.slice(0, 65_535), '3'], { joins: true }));
add('WebSocket: a close with 1000', websocket([frame(Buffer.from([0x03, 0xe8]), { opcode: 8 })], { joins: true }));
add('WebSocket: a close without a code', websocket([frame('', { opcode: 8 })], { joins: true }));
add('WebSocket: a close with a code that does not exist', websocket([frame(Buffer.from([0x03, 0xed]), { opcode: 8 })], { joins: true }));

// --- Socket.IO packets

const ask = (ack, data = '["ping:latency",{"t":1}]') => `42/realtime,${ack}${data}`;
const SOCKET = {
  before: ['4', '47', '48', '4x', '4 0', '40', '40{}', '40,', '40/nowhere', '40/nowhere,', '40/nowhere,{}', '40/nowhere,x', '40nowhere', '40/realtime', '40/realtime,', '40/realtime,{}', '40/realtime,{bad', '40/realtime,[]', '40/realtime,[1]',
    '40/realtime,"x"', '40/realtime,null', '40/realtime,7', '40/realtime,{"token":7}', '40/realtime,{}x', '40/realtime?a=b,', '40/realtime,1{}', `40/realtime,{"token":"${TOKEN}"}`, `40/realtime,{"token":"${TOKEN}","token":"${TOKEN}"}`,
    ask(''), '41', '41/realtime,', '41/nowhere,', '43/realtime,1[]', '44', '44/realtime,{}', '44/realtime,"x"', '451-/realtime,["a",{"_placeholder":true,"num":0}]', '42["a"]', '42/nowhere,["a"]'],
  joined: [ask(''), ask('0'), ask('1'), ask('007'), ask('9007199254740991'), ask('9007199254740993'), ask('9223372036854775807'), ask('9223372036854775808'), ask('12345678901234567890'), ask('99999999999999999999'),
    ask('123456789012345678901234567890'), ask('9'.repeat(400)), ask('-1'), ask('+1'), ask('1.5'), ask('1e3'), ask(' 1'), ask('1 '), ask('0x1'), ask('１'),
    '42/realtime', '42/realtime,', '42/realtime,1', '42/realtime,{}', '42/realtime,null', '42/realtime,"x"', '42/realtime,7', ask('', '[]'), ask('1', '[]'), ask('', '[null]'), ask('', '[true]'), ask('', '[{}]'), ask('', '[[]]'),
    ask('', '[7,{}]'), ask('1', '[7,{}]'), ask('', '[7]'), ask('', '[-1.5e3,{}]'), ask('', '["7",{}]'), ask('1', '["7",{}]'), ask('', '[""]'), ask('1', '[""]'),
    ...['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener', 'error', 'connection', '__proto__', 'constructor'].map((name) => ask('', JSON.stringify([name, {}]))),
    ask('1', '["connect"]'), ask('1', '["nobody knows"]'), ask('', '["nobody knows"]'), ask('1', '["ping:latency"]'), ask('1', '["ping:latency",{"t":1},2,3]'), ask('1', '["ping:latency",null]'),
    ask('1', '["ping:latency",{"t":NaN}]'), ask('', '["ping:latency",{"t":NaN}]'), ask('1', '["ping:latency",{"t":Infinity}]'), ask('1', '["ping:latency",{"t":1,}]'), ask('1', '["ping:latency",{"t":01}]'), ask('1', '["ping:latency",{t:1}]'), ask('1', "['ping:latency',{}]"),
    ask('1', '["ping:latency",{"t":1}'), ask('1', '["ping:latency",{"t":1}]x'), ask('1', '["ping:latency",{"t":1}]]'), ask('1', '["ping:latency",{"t":1}] '), ask('1', '["ping:latency",{"t":1}]\n'), ask('1', '["ping:latency",{"t":1}][]'), ask('1', '\ufeff["ping:latency",{}]'), ask('1', ' ["ping:latency",{}]'),
    ask('1', '["ping:latency",{"t":1e999}]'), ask('1', '["ping:latency",{"t":1,"t":2}]'), ask('1', '["ping:latency",{"t":"\\ud83c"}]'), ask('1', '["ping:latency",{"__proto__":{"t":1}}]'), ask('1', '["ping:latency",{"t":"\u0001"}]'),
    ask('1', `["ping:latency",${'['.repeat(100)}${']'.repeat(100)}]`), ask('1', `["ping:latency",${'['.repeat(1000)}${']'.repeat(1000)}]`), ask('1', '["ping\\u003alatency",{"t":1}]'),
    '43/realtime,1[]', '43/realtime,1[1,2]', '43/realtime,[]', '43/realtime,', '43/realtime,1', '43/realtime,1{}', '44', '44/realtime,{}', '44/realtime,"x"', '44/realtime,', '44/realtime,7',
    '40/realtime', '40/realtime,{}', `40/realtime,{"token":"${TOKEN}"}`, '40', '40{}', '40/nowhere', '40/nowhere,{}', '41', '41/realtime', '41/realtime,', '41/realtime,x', '41/realtime,{}', '41/nowhere,', '42["a"]', '421["a"]', '42/nowhere,["a"]', '42/nowhere,1["a"]', '43["a"]', '431["a"]',
    '42/realtime,1,["ping:latency",{}]', '42/realtime?x=y,1["ping:latency",{}]', '42/REALTIME,1["ping:latency",{}]', '42/realtime/,1["ping:latency",{}]', '42/,1["a"]', '42//realtime,["a"]',
    '45/realtime,["a"]', '45-/realtime,["a"]', '450-/realtime,["a"]', '45x-/realtime,["a"]', '45-1-/realtime,["a"]', '451.5-/realtime,["a"]', '4501-/realtime,["a"]', '451/realtime,["a"]', '4511-/realtime,["a"]', '4599999999999999999999-/realtime,["a"]', '451-', '451-/realtime,', '451-/realtime,{}', '46', '461-/realtime,[]'],
};
for (const packet of SOCKET.before) {
  if (!CASES.has(`polling: ${show(packet)}`)) add(`polling: ${show(packet)}`, polling([packet]));
  if (!CASES.has(`WebSocket: ${show(packet)}`)) add(`WebSocket: ${show(packet)}`, websocket([packet]));
}
for (const packet of SOCKET.joined) {
  add(`polling: ${show(packet)}, joined`, polling([packet], { joins: true }));
  add(`WebSocket: ${show(packet)}, joined`, websocket([packet], { joins: true }));
}

const PLACE = (num) => `{"_placeholder":true,"num":${num}}`;
const attachments = {
  'one attachment': [`451-/realtime,["a",${PLACE(0)}]`, 1], 'one attachment and an ack': [`451-/realtime,7["a",${PLACE(0)}]`, 1], 'two attachments': [`452-/realtime,7["a",${PLACE(0)},${PLACE(1)}]`, 2],
  'an attachment too few': [`452-/realtime,7["a",${PLACE(0)},${PLACE(1)}]`, 1], 'an attachment too many': [`451-/realtime,7["a",${PLACE(0)}]`, 2], 'ten attachments': [`4510-/realtime,7["a",${PLACE(0)}]`, 10],
  'an attachment that nothing stands for': ['451-/realtime,7["a"]', 1], 'an attachment of another number': [`451-/realtime,7["a",${PLACE(5)}]`, 1], 'an attachment of a number below zero': [`451-/realtime,7["a",${PLACE(-1)}]`, 1], 'an attachment of a text number': [`451-/realtime,7["a",${PLACE('"0"')}]`, 1],
  'an attachment of a numeric event': [`451-/realtime,7[7,${PLACE(0)}]`, 1], 'an attachment of a reserved event': [`451-/realtime,7["connect",${PLACE(0)}]`, 1], 'an attachment of an ack': [`461-/realtime,7[${PLACE(0)}]`, 1], 'an attachment of another namespace': [`451-/nowhere,7["a",${PLACE(0)}]`, 1],
  'an attachment with an ack of 20 digits': [`451-/realtime,12345678901234567890["a",${PLACE(0)}]`, 1],
};
for (const [name, [packet, count]] of Object.entries(attachments)) {
  add(`polling: ${name}`, polling([[packet, ...Array(count).fill('bAQID')].join('\u001e')], { joins: true }));
  add(`WebSocket: ${name}`, websocket([packet, ...Array(count).fill(binary(1, 2, 3))], { joins: true }));
}
add('WebSocket: text where an attachment is due', websocket([`451-/realtime,7["a",${PLACE(0)}]`, ask('1'), binary(1)], { joins: true }));
add('WebSocket: a pong where an attachment is due', websocket([`451-/realtime,7["a",${PLACE(0)}]`, '3', binary(1)], { joins: true }));
add('WebSocket: a bad packet, then a good one', websocket(['42/realtime,[bad', ask('1')], { joins: true }));
add('WebSocket: leaving, asking, coming back', websocket(['41/realtime,', `40/realtime,{"token":"${TOKEN}"}`, ask('1')], { joins: true }));
add('WebSocket: asking after leaving', websocket(['41/realtime,', ask('1')], { joins: true }));
add('polling: several packets in one body', polling([[ask('1'), '3', ask('2'), '6', ask('3')].join('\u001e')], { joins: true }));
add('polling: a bad packet between good ones', polling([[ask('1'), '42/realtime,[bad', ask('2')].join('\u001e')], { joins: true }));
add('polling: joining and asking in one body', polling([[`40/realtime,{"token":"${TOKEN}"}`, ask('1')].join('\u001e')]));

// --- Engine.IO 3

const OLD = ['2', '3', '2probe', '6', '7', '1', '40', '40/realtime', '40/realtime,', `40/realtime?token=${TOKEN},`, `40/realtime?token=${TOKEN}`, `40/realtime?token=${TOKEN}&x=é,`, '40/nowhere,', '40/nowhere?x=y,', '41', '42["a"]', '42/nowhere,["a"]', 'x', '4', '47'];
for (const packet of OLD) {
  add(`version 3, polling: ${show(packet)}`, polling([`${packet.length}:${packet}`], { version: 3 }));
  add(`version 3, WebSocket: ${show(packet)}`, websocket([packet], { version: 3 }));
}
for (const packet of ['2', ask('1'), ask('12345678901234567890'), ask('', '[7,{}]'), ask('1', '["ping:latency",{"t":NaN}]'), ask('1', '["nobody knows","é😀"]'), '42/realtime,[bad', '41/realtime,', '40/realtime,', '6', '451-/realtime,["a"]', '42["a"]']) {
  add(`version 3, polling: ${show(packet)}, joined`, polling([`${packet.length}:${packet}`], { version: 3, joins: true }));
  add(`version 3, WebSocket: ${show(packet)}, joined`, websocket([packet], { version: 3, joins: true }));
}
for (const body of ['', '1', '1:', ':2', '0:', '2:2', 'x:2', '-1:2', '1:2x', '1:21:x1:2', '01:2', '1.0:2', ' 1:2', '99999999999999999999:2', '3:4é', '2:4é', '1:2\n']) add(`version 3, polling body: ${show(body) || 'nothing'}`, polling([body], { version: 3 }));
add('version 3, polling: an attachment', polling([`43:451-/realtime,7["a",${PLACE(0)}]`.replace(/^\d+/, () => `${`451-/realtime,7["a",${PLACE(0)}]`.length}`) + '6:b4AQID'], { version: 3, joins: true }));
add('version 3, WebSocket: an attachment', websocket([`451-/realtime,7["a",${PLACE(0)}]`, binary(4, 1, 2, 3)], { version: 3, joins: true }));

// --- a WebSocket for a session that polls

add('upgrade: probe and change', upgrade(['2probe', '5']));
add('upgrade: change without a probe', upgrade(['5']));
add('upgrade: two probes', upgrade(['2probe', '2probe', '5']));
for (const packet of ['2', '3probe', '3', '6', '1', '4', '40/nowhere,', 'x', '', '2probex', '0']) {
  add(`upgrade: ${show(packet) || 'nothing'} first`, upgrade([packet], { fence: '' }));
  add(`upgrade: ${show(packet) || 'nothing'} after the probe`, upgrade(['2probe', packet], { fence: '' }));
}
add('upgrade: binary first', upgrade([binary(1)], { fence: '' }));
add('upgrade: of another version', upgrade(['2probe'], { fence: '', before: (session) => { session.sid += '&EIO=3'; return 'asked as version 3'; } }));
add('upgrade: version 3', upgrade(['2probe', '5'], { version: 3 }));
