// Node's socket.io: node sio_node.js app|beating PORT, with the package's folder in NODE_PATH.
const { Server } = require('socket.io');
const { createServer } = require('http');

const [mode, port] = process.argv.slice(2);
const server = createServer();
const io = new Server(server, {
  pingInterval: mode === 'beating' ? 1000 : 3600000,
  pingTimeout: 600000,
  perMessageDeflate: false,
  serveClient: false,
});

io.on('connection', (socket) => {
  socket.join('room');
  socket.on('echo', (data, answer) => answer(data));
  socket.on('all', (data) => io.to('room').emit('all', data));
});
server.listen({ host: '127.0.0.1', port: Number(port), backlog: 1024 });
